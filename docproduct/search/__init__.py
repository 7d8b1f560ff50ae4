"""Search over vectors and words; knows no model.

engine.py (what an engine for vectors does), faiss_engine.py (the only file that imports faiss), rescored_engine.py (a
compressed index with exact vectors in a file), kinds.py (which kind for how many vectors), words.py (BM25),
fusion.py (both rankings together), stored.py (questions asked word for word), filters.py (conditions on columns). An
index that changes: live_engine.py (vectors added to an engine and removed from it), changes.py (durable). An index in a
database: store.py (what a database does), milvus_store.py, postgres_store.py. Which questions an index can answer:
answerable.py (by several signals, one of them from shared_words.py), threshold.py (by the cosine alone).
"""
