"""The systems; each is a folder with its model, loss, training and export."""
