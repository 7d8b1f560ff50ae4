"""The text around what a model reads: the same functions train and serve."""
