"""Turns texts into token ids: WordPiece and Unigram for encoders, byte pairs for GPT-2 and for other decoders."""

from data_pipeline.tokenizers.byte_pairs import BytePairs, train_byte_pairs
from data_pipeline.tokenizers.decoder_tokenizer import DecoderTokenizer, load_decoder_tokenizer
from data_pipeline.tokenizers.encoder_vocabulary import EncoderVocabulary
from data_pipeline.tokenizers.json_tokenizer import JsonTokenizer
from data_pipeline.tokenizers.loading import Tokenizer, load_tokenizer
from data_pipeline.tokenizers.wordpiece import WordPiece, train_wordpiece

CausalTokenizer = BytePairs | DecoderTokenizer | EncoderVocabulary  # of a causal language model

__all__ = [
    "BytePairs",
    "CausalTokenizer",
    "DecoderTokenizer",
    "EncoderVocabulary",
    "JsonTokenizer",
    "Tokenizer",
    "WordPiece",
    "load_decoder_tokenizer",
    "load_tokenizer",
    "train_byte_pairs",
    "train_wordpiece",
]
