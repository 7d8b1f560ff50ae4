import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import batches, records
from data_pipeline.rows import PAIR
from data_pipeline.schemas import IDS
from data_pipeline.varints import split_varints, varints

ROWS = [
    {"question_ids": [2, 5, 300, 3], "answer_ids": [*range(0, 30_000, 99)], "pair_id": -7, "question_group": 1},
    {"question_ids": [], "answer_ids": [3], "pair_id": 0, "question_group": -(2**63)},
    {"question_ids": [127, 128, 16_383, 16_384], "answer_ids": [2**20] * 7_000, "pair_id": 1, "question_group": 2**62},
]
ROWS = [row | {"answer_group": 2**63 - 1} for row in ROWS]


def packed(values):
    return varints(np.array(values, np.int64)).tobytes()


def serialized(rows):
    columns = {
        name: [packed(row[name] if kind == IDS else [row[name]]) for row in rows]
        for name, kind in PAIR.features.items()
    }
    return records.serialize(columns)


def test_records_equal_the_bytes_of_protobuf():
    for row, record in zip(ROWS, serialized(ROWS), strict=True):
        example = tf.train.Example()
        for name, value in row.items():
            example.features.feature[name].int64_list.value.extend(value if isinstance(value, list) else [value])
        assert record == example.SerializeToString(deterministic=True)


def test_tensorflow_reads_a_shard(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    records.write_shard(path, serialized(ROWS))
    raw = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    parsed = batches.parse(raw, PAIR.features)
    for name in PAIR.features:
        assert [value.numpy().tolist() for value in parsed[name]] == [row[name] for row in ROWS]
    with pytest.raises(RuntimeError), open(path, "rb"):
        records.write_shard(path, failing())
    assert list(tf.data.TFRecordDataset(path).as_numpy_iterator()) == raw  # the old shard is still complete
    assert [file.name for file in tmp_path.iterdir()] == ["x.tfrecord"]


def failing():
    yield b"one"
    raise RuntimeError


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ff" * 9 + "01")]
)
def test_varints_by_hand(number, expected):
    # 300 = 2 * 128 + 44: first 44 with the mark that another byte follows (0xac), then 2. -1 is 64 ones: nine times 7.
    assert packed([number]).hex() == expected


def test_varints_are_split():
    numbers = [0, 300, 127, 2**40, 128]
    assert split_varints(varints(np.array(numbers))) == [packed([number]) for number in numbers]
    assert split_varints(varints(np.array([], np.int64))) == []
