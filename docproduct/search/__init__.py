"""Searching vectors and words; knows no model. vectors.py is the only file that imports faiss."""
