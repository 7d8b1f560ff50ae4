"""NumPy references, written from the papers and not from our code."""

import numpy as np


def in_batch_softmax(questions, answers, pair_ids, question_groups, answer_groups, scale):
    """Loss of each row, one pair of loops, straight from the definition."""
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
