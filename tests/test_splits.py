import pytest
import xxhash

from data_pipeline import splits


def test_splits_meet_their_shares_and_are_deterministic():
    drawn = [splits.split_of(group, seed=7, dev_share=0.2, test_share=0.1) for group in range(20_000)]
    # Standard deviation of a share of 0.2 over 20,000 draws is 0.003.
    assert drawn.count("dev") / len(drawn) == pytest.approx(0.2, abs=0.012)
    assert drawn.count("test") / len(drawn) == pytest.approx(0.1, abs=0.012)
    assert drawn == [splits.split_of(group, seed=7, dev_share=0.2, test_share=0.1) for group in range(20_000)]
    assert drawn != [splits.split_of(group, seed=8, dev_share=0.2, test_share=0.1) for group in range(20_000)]


@pytest.mark.parametrize("shares", [(1.0, 0.0), (-0.1, 0.0), (0.6, 0.5)])
def test_invalid_shares_are_refused(shares):
    with pytest.raises(ValueError, match="less than 1 together"):
        splits.check_shares(*shares)


def test_a_draw_takes_the_share_of_each_split_in_the_order_of_the_hashes():
    keys = list(range(-7, 6))
    by_hash = sorted(keys, key=lambda key: xxhash.xxh3_64_intdigest(f"3:{key}".encode()))
    # Of 13 keys: 0.3 * 13 = 3.9 and 0.2 * 13 = 2.6.
    assert splits.draw(keys, 3, 0.3, 0.2) == (by_hash[:4], by_hash[4:7])
    assert splits.draw(keys[::-1], 3, 0.3, 0.2) == (by_hash[:4], by_hash[4:7])
    assert splits.draw(keys, 4, 0.3, 0.2) != (by_hash[:4], by_hash[4:7])
    assert splits.draw([5], 3, 0.05, 0.0) == ([], [])  # a rare label stays in train
