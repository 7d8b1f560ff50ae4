import collections

import numpy as np
import tensorflow as tf

from data_pipeline import batches, cleaning, records


def epoch(prepared, batch_size=8, epoch=0, seed=0, skip=0, num_buckets=3):
    dataset = batches.training_batches(prepared, "train", batch_size, 0, seed, epoch, skip, num_buckets)
    return list(dataset.as_numpy_iterator())


def ids(found):
    return np.concatenate([batch["pair_id"] for batch in found]).tolist()


def test_an_epoch_sees_each_pair_once_in_batches_of_the_size_asked_for(prepared):
    pairs = sorted(prepared.pairs(["pair_id"], "train")["pair_id"].to_pylist())
    for batch_size in (2, 7, 8, len(pairs), 100):
        found = epoch(prepared, batch_size)
        assert sorted(ids(found)) == pairs
        sizes = collections.Counter(len(batch["pair_id"]) for batch in found)
        rest = len(pairs) % batch_size
        expected = collections.Counter({batch_size: len(pairs) // batch_size}) + collections.Counter(
            [rest] * bool(rest)
        )
        assert sizes == expected


def test_each_side_is_padded_to_its_own_longest_row(prepared, tokenizer):
    rows = {row["pair_id"]: row for row in prepared.pairs(["pair_id", "question", "answer"]).to_pylist()}
    for batch in epoch(prepared):
        for side in ("question", "answer"):
            wanted = [tokenizer.encode([rows[i][side]], 256).to_list()[0] for i in batch["pair_id"].tolist()]
            longest = max(map(len, wanted))
            assert batch[f"{side}_ids"].tolist() == [row + [0] * (longest - len(row)) for row in wanted]


def test_order_depends_on_seed_and_epoch_alone(prepared):
    first = ids(epoch(prepared))
    assert ids(epoch(prepared)) == first
    assert ids(epoch(prepared, epoch=1)) != first
    assert ids(epoch(prepared, seed=1)) != first


def test_skipping_continues_where_the_epoch_stopped(prepared):
    assert ids(epoch(prepared, skip=2)) == ids(epoch(prepared)[2:])


def test_boundaries_divide_the_pairs_equally():
    # 100 pairs of each length 1 ... 8 in 4 buckets: up to 2, 4, 6, 8.
    assert batches.length_boundaries([(n, 100) for n in range(1, 9)], 4, 10) == [3, 5, 7]
    # A bucket of batch size 60 needs 240 pairs: 800 pairs make 3 buckets, at 267 and 533 pairs.
    assert batches.length_boundaries([(n, 100) for n in range(1, 9)], 4, 60) == [3, 6]
    assert batches.length_boundaries([(5, 10)], 4, 60) == []


def test_buckets_hold_pairs_of_like_length(prepared):
    def padding(num_buckets):
        found = epoch(prepared, 4, num_buckets=num_buckets)
        return sum((batch["answer_ids"] == 0).sum() for batch in found)

    assert padding(3) < 0.8 * padding(1)


def test_inference_batches_restore_the_order():
    rows = [[1] * n for n in (3, 9, 1, 9, 4, 2, 6)]
    seen = {}
    widths = []
    for positions, batch in batches.length_sorted(tf.ragged.constant(rows, tf.int32), 3, pad_id=0):
        widths.append(batch.shape)
        for position, row in zip(positions.tolist(), batch.tolist(), strict=True):
            seen[position] = [i for i in row if i]
    assert [seen[i] for i in range(len(rows))] == rows
    assert widths == [(3, 9), (3, 4), (1, 1)]  # lengths 9 9 6, 4 3 2, 1


def test_records_are_the_same_bytes_and_come_back():
    row = {"question_ids": [2, 5, 3], "answer_ids": [2, 3], "pair_id": -7, "question_group": 1, "answer_group": 2**62}
    assert records.serialize(row) == records.serialize(dict(reversed(row.items())))
    back = records.parse([records.serialize(row)], records.PAIR)
    assert {name: value[0].numpy().tolist() for name, value in back.items()} == row


def test_shards_are_named_when_they_are_whole(tmp_path):
    writer = records.ShardWriter(str(tmp_path), "train", 2)
    writer.write(b"x", key=cleaning.hash64("x"))
    assert all(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert sorted(writer.close()) == sorted(path.name for path in tmp_path.iterdir())


def test_a_split_without_pairs(prepared):
    assert prepared.num_pairs("test") == 0
    assert prepared.shards("test") == []
