"""Shows how much of some inputs is read, and the time that is left."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from data_pipeline.corpora.packings import bytes_read, forget
from data_pipeline.folders import files


@contextlib.contextmanager
def reading_bar(paths: Sequence[str], description: str, unit: str, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs.

    It counts bytes on the disk, packed as they are, so that it knows how much is left. Parquet, Arrow and Excel files
    are not read from front to back: they count when the reading of the next file begins.

    Args:
      paths: the files, in the order in which they are read.
      description: what stands before the bar.
      unit: what the rows are called.
      shown: whether there is a bar.

    Yields:
      A function that takes the number of further rows that were read.
    """
    sizes = {path: files.size(path) for path in paths}
    num_rows = 0
    for path in paths:
        forget(path)  # its first bytes told its format
    with tqdm(desc=description, total=sum(sizes.values()), unit="B", unit_scale=True, disable=not shown) as bar:

        def update(rows: int) -> None:
            nonlocal num_rows
            num_rows += rows
            bar.set_postfix_str(f"{num_rows:,} {unit}", refresh=False)
            bar.update(_bytes(sizes) - bar.n)

        yield update
        bar.update(bar.total - bar.n)


def _bytes(sizes: dict[str, int]) -> int:
    """Returns the bytes that are read: all of the files before the last one that was begun, a part of this."""
    parts = [bytes_read(path) for path in sizes]
    begun = [number for number, part in enumerate(parts) if part]
    if not begun:
        return 0
    return sum(list(sizes.values())[: begun[-1]]) + parts[begun[-1]]
