"""The bar of what is read: bytes on the disk, packed or not."""

import gzip
import random

import pytest

from data_pipeline.corpora import PAIRS, Columns, Refusals
from data_pipeline.corpora import progress as module
from data_pipeline.corpora.packings import bytes_read
from data_pipeline.corpora.progress import reading_bar
from tests.conftest import write_csv


@pytest.fixture
def files(tmp_path):
    """A packed table, whose letters are random so that it stays large, and a plain one."""
    letters = random.Random(0)
    rows = [(f"q{number}", "".join(letters.choices("abcdefghijklmnop", k=400))) for number in range(4_000)]
    packed, plain = tmp_path / "a.csv.gz", tmp_path / "b.csv"
    write_csv(plain, rows)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return [str(packed), str(plain)]


def test_bytes_grow_with_the_rows_and_end_at_the_size(files):
    for path in files:
        size, seen = module.files.size(path), []
        for number, _ in enumerate(PAIRS.read(path, Columns(), Refusals())):
            if number % 1_000 == 999:
                seen.append(bytes_read(path) / size)
        assert seen == sorted(seen)
        # The rows are of one length: a quarter of them takes a quarter of the bytes, and a block that is read ahead.
        assert [share - 0.25 * number for number, share in enumerate(seen, 1)] == pytest.approx([0.15] * 4, abs=0.15)
        assert bytes_read(path) == size


def test_a_bar_counts_whole_files_and_a_part_of_the_present_one(files, monkeypatch):
    sizes = [module.files.size(path) for path in files]
    monkeypatch.setattr(module, "tqdm", Bar)
    with reading_bar(files, "reading", "pairs", True) as count:
        for path in files:
            for number, _ in enumerate(PAIRS.rows(path, Columns(sample=3_000), Refusals())):
                if number % 1_000 == 999:
                    count(1_000)
        bar = Bar.made
        assert bar.total == sum(sizes)
        assert bar.seen == sorted(bar.seen)
        assert bar.seen[2] <= sizes[0] < bar.seen[3] < bar.total
        assert bar.postfix == "6,000 pairs"
    assert bar.n == bar.total


class Bar:
    """Stands for tqdm."""

    def __init__(self, desc, total, **options):
        self.total, self.n, self.seen = total, 0, []
        Bar.made = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def set_postfix_str(self, text, refresh):
        self.postfix = text

    def update(self, size):
        self.n += size
        self.seen.append(self.n)
