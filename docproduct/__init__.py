"""Question answering from a table of questions and answers: BERT bi-encoder, FAISS, GPT-2. Start at answering.py."""
