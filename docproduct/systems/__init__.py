"""The systems: each has its model, loss and training in one file."""
