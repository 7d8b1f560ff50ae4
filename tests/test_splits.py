import pytest

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
