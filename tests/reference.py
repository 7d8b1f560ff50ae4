"""NumPy references, written from the papers and not from our code."""

import itertools

import numpy as np
import regex


def in_batch_softmax(questions, answers, pair_ids, question_groups, answer_groups, scale):
    """Returns the loss of each row, computed with two loops straight from the definition."""
    losses = []
    for i in range(len(questions)):
        logits, own = [], None
        for j in range(len(answers)):
            same = question_groups[i] == question_groups[j] or answer_groups[i] == answer_groups[j]
            if pair_ids[i] == pair_ids[j]:
                own = len(logits)
            elif same:
                continue
            logits.append(scale * float(np.dot(questions[i], answers[j])))
        logits = np.array(logits)
        losses.append(-(logits[own] - logits.max() - np.log(np.exp(logits - logits.max()).sum())))
    return np.array(losses)


# openai/gpt-2, encoder.py.
_GPT2_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def gpt2_bytes():
    """Returns {byte: the printable character that stands for it}."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def gpt2_ids(text, vocab, ranks, words):
    """Returns the ids of a text: in each word, the adjacent pair of lowest rank is merged until no pair has a rank.

    vocab: {token: id}; ranks: {(token, token): rank}; words: a cache, {word: ids}.
    """
    characters = gpt2_bytes()
    ids = []
    for word in _GPT2_WORDS.findall(text):
        if word not in words:
            parts = [characters[byte] for byte in word.encode()]
            while len(parts) > 1:
                pair = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, float("inf")))
                if pair not in ranks:
                    break
                merged, i = [], 0
                while i < len(parts):
                    both = tuple(parts[i : i + 2]) == pair
                    merged.append("".join(pair) if both else parts[i])
                    i += 2 if both else 1
                parts = merged
            words[word] = [vocab[part] for part in parts]
        ids += words[word]
    return ids


def repeating(answer, size):
    """Returns the tokens that would complete an n-gram of `size` tokens that the answer already holds."""
    runs = [answer[i : i + size] for i in range(len(answer) - size + 1)] if size else []
    return [run[-1] for run in runs if [*answer, run[-1]][-size:] == run]
