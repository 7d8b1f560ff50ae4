"""Folders and files that are written whole or not at all: prepared rows, rows of token ids."""
