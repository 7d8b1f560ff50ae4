"""Turns texts into token ids: WordPiece for BERT, any tokenizer.json (Unigram), byte-level byte pairs for GPT-2."""

from data_pipeline.tokenizers.byte_pairs import BytePairs, train_byte_pairs
from data_pipeline.tokenizers.json_tokenizer import JsonTokenizer
from data_pipeline.tokenizers.loading import Tokenizer, load_tokenizer
from data_pipeline.tokenizers.wordpiece import WordPiece, train_wordpiece

__all__ = [
    "BytePairs",
    "JsonTokenizer",
    "Tokenizer",
    "WordPiece",
    "load_tokenizer",
    "train_byte_pairs",
    "train_wordpiece",
]
