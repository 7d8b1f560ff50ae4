"""The systems: each room has its model, loss, training and export; a large one is a folder."""
