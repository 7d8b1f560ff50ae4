"""Search over vectors and words; knows no model.

engine.py (what an engine for vectors does), faiss_engine.py (the only file that imports faiss), words.py (BM25),
fusion.py (both rankings together), threshold.py (which questions an index can answer), stored.py (questions asked word
for word).
"""
