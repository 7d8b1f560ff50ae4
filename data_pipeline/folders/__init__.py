"""Folders and files that are written whole or not at all: prepared pairs, rows of token ids."""
