"""Puts texts into the prompts that models read; the same functions train and serve."""
