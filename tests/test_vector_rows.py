"""Which row each vector belongs to, against dictionaries, while rows are added and emptied."""

import numpy as np

from docproduct.index.vector_rows import VectorRows


def test_rows_and_ids_equal_dictionaries():
    draw = np.random.default_rng(2)
    ids, rows = draw.permutation(40) - 20, np.sort(draw.integers(0, 15, 40))  # some rows have none, some several
    ids_of = {row: ids[rows == row].tolist() for row in range(15)}
    table = VectorRows(ids.astype(np.int64), rows, 15)
    before = None
    for step in range(12):
        if step % 3 == 2:
            row = int(draw.integers(0, len(ids_of)))
            table.empty(row)
            ids_of[row] = []
        else:
            ids_of[len(ids_of)] = new = [1_000 + 2 * step, 1_001 + 2 * step]
            table.add(np.array(new))
        assert [table[row] for row in range(len(table))] == list(ids_of.values())
        row_of = {vector_id: row for row, of_row in ids_of.items() for vector_id in of_row}
        asked = np.array([*ids.tolist(), *range(1_000, 1_030), 99, -99])
        assert table.rows_of(asked) == [row_of.get(vector_id, -1) for vector_id in asked.tolist()]
        before = before or (table.snapshot(), [list(of_row) for of_row in ids_of.values()])
    snapshot, expected = before
    assert [snapshot[row] for row in range(len(snapshot))] == expected


def test_no_vectors_at_first():
    table = VectorRows(np.empty(0, np.int64), np.empty(0, int), 2)
    table.add(np.array([7]))
    assert (table[0], table[2], table.rows_of(np.array([7, 8]))) == ([], [7], [2, -1])
