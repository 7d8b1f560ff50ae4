"""Assigns rows to splits by the hash of their key, such as the question of a pair: no question is in two splits."""

from collections.abc import Collection

import xxhash

TRAIN, DEV, TEST = SPLITS = ("train", "dev", "test")


def split_of(key_group: int, seed: int, dev_share: float, test_share: float) -> str:
    """Returns the split of all rows whose key is in `key_group`.

    The split is a hash of (seed, key group). Nothing has to be stored, and a row stays in its split when others join.

    Args:
      key_group: 64-bit hash of the key in normal form.
      seed: another seed draws another split.
      dev_share: share of the keys that goes to dev, 0 to 1.
      test_share: share that goes to test, 0 to 1; the others go to train.
    """
    position = _hash(key_group, seed) / 2**64  # in [0, 1)
    if position < dev_share:
        return DEV
    return TEST if position < dev_share + test_share else TRAIN


def draw(key_groups: Collection[int], seed: int, dev_share: float, test_share: float) -> tuple[list[int], list[int]]:
    """Returns the key groups of dev and of test, so many of each as its share says; the others go to train.

    They are drawn by the hash of `split_of`. Unlike there, a key group may change its split when others join.

    Args:
      key_groups: distinct key groups, such as those of all rows with one label, in any order.
      seed: another seed draws others.
      dev_share: share of dev, 0 to 1; the number is rounded.
      test_share: share of test, 0 to 1; the number is rounded.
    """
    num_dev, num_test = (round(share * len(key_groups)) for share in (dev_share, test_share))
    ordered = sorted(key_groups, key=lambda key_group: (_hash(key_group, seed), key_group))
    return ordered[:num_dev], ordered[num_dev : num_dev + num_test]


def _hash(key_group: int, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}:{key_group}".encode())


def check_shares(dev_share: float, test_share: float) -> None:
    """Raises a ValueError unless both shares are in [0, 1) and leave something to train on."""
    if not (0 <= dev_share < 1 and 0 <= test_share < 1 and dev_share + test_share < 1):
        raise ValueError(
            f"dev_share is {dev_share} and test_share is {test_share}; expected 0 or more each, less than 1 together."
        )
