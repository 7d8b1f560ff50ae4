"""Which split a pair belongs to: decided by its question group, so that no question is in two splits."""

import xxhash

TRAIN, DEV, TEST = SPLITS = ("train", "dev", "test")


def split_of(question_group: int, seed: int, dev_share: float, test_share: float) -> str:
    """Returns the split of all pairs whose question is in `question_group`.

    It is a hash of (seed, question group): no list has to be kept, and a pair stays where it is when others join.

    Args:
      question_group: 64-bit hash of the question in normal form.
      seed: another seed draws another split.
      dev_share: share of the question groups that goes to dev, 0 to 1.
      test_share: share that goes to test, 0 to 1; the rest is train.
    """
    position = xxhash.xxh3_64_intdigest(f"{seed}:{question_group}".encode()) / 2**64  # in [0, 1)
    if position < dev_share:
        return DEV
    return TEST if position < dev_share + test_share else TRAIN


def check_shares(dev_share: float, test_share: float) -> None:
    """Raises a ValueError unless both shares are in [0, 1) and leave something to train on."""
    if not (0 <= dev_share < 1 and 0 <= test_share < 1 and dev_share + test_share < 1):
        raise ValueError(
            f"dev_share is {dev_share} and test_share is {test_share}; expected 0 or more each, less than 1 together."
        )
