import collections
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders.prepared import PreparedFolder


def epoch(prepared, batch_size=8, epoch=0, seed=0, skip=0, num_buckets=3, **settings):
    settings = batches.BatchSettings(batch_size, num_buckets, seed=seed, **settings)
    dataset = batches.training_batches(prepared, "train", settings, 0, epoch, skip)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


def ids(epoch_batches):
    return np.concatenate([batch["pair_id"] for batch in epoch_batches]).tolist()


def test_an_epoch_sees_each_pair_once_in_batches_of_the_requested_size(prepared):
    pairs = sorted(prepared.table(["pair_id"], "train")["pair_id"].to_pylist())
    for batch_size in (2, 7, 8, len(pairs), 100):
        epoch_batches = epoch(prepared, batch_size)
        assert sorted(ids(epoch_batches)) == pairs
        sizes = collections.Counter(len(batch["pair_id"]) for batch in epoch_batches)
        rest = len(pairs) % batch_size
        expected = collections.Counter({batch_size: len(pairs) // batch_size}) + collections.Counter(
            [rest] * bool(rest)
        )
        assert sizes == expected


def test_each_side_is_padded_to_its_own_longest_row(prepared, tokenizer):
    rows = {row["pair_id"]: row for row in prepared.table(["pair_id", "question", "answer"]).to_pylist()}
    for batch in epoch(prepared):
        for side in ("question", "answer"):
            expected = [tokenizer.encode([rows[i][side]], 256).to_list()[0] for i in batch["pair_id"].tolist()]
            longest = max(map(len, expected))
            assert batch[f"{side}_ids"].tolist() == [row + [0] * (longest - len(row)) for row in expected]


def test_order_depends_only_on_seed_and_epoch(prepared):
    first = ids(epoch(prepared))
    assert ids(epoch(prepared)) == first
    assert ids(epoch(prepared, epoch=1)) != first
    assert ids(epoch(prepared, seed=1)) != first


def test_skipping_continues_where_the_epoch_stopped(prepared):
    assert ids(epoch(prepared, skip=2)) == ids(epoch(prepared)[2:])


@pytest.mark.parametrize("num_buckets", [1, 3])
def test_workers_share_each_batch(prepared, num_buckets):
    whole = epoch(prepared, 7, num_buckets=num_buckets)
    parts = [epoch(prepared, 7, num_buckets=num_buckets, worker=i, num_workers=3) for i in range(3)]
    for batch, *rows in zip(whole, *parts, strict=True):
        for i in range(3):
            assert rows[i]["pair_id"].tolist() == batch["pair_id"][i::3].tolist()


def test_padding_to_a_multiple(prepared):
    for plain, padded in zip(epoch(prepared), epoch(prepared, pad_to_multiple=8), strict=True):
        for name in ("question_ids", "answer_ids"):
            width = plain[name].shape[1]
            assert padded[name].shape[1] == -(-width // 8) * 8
            np.testing.assert_array_equal(padded[name][:, :width], plain[name])
            assert not padded[name][:, width:].any()


def test_given_boundaries_separate_short_and_long_pairs(prepared):
    lengths = np.repeat(*np.array(prepared.manifest["train_lengths"]).T)
    middle = int(np.median(lengths))
    epoch_batches = epoch(prepared, 4, boundaries=(middle,))
    sides = [(batch["question_ids"] > 0).sum(1) + (batch["answer_ids"] > 0).sum(1) for batch in epoch_batches]
    assert sorted(np.concatenate(sides)) == sorted(lengths)
    assert sum((side < middle).all() for side in sides) >= 4
    mixed = [side for side in sides if len({n < middle for n in side.tolist()}) == 2]
    assert len(mixed) <= 1  # the remainder of both buckets


def test_random_batches_without_buckets(prepared):
    epoch_batches = epoch(prepared, 8, num_buckets=1)
    assert sorted(ids(epoch_batches)) == sorted(prepared.table(["pair_id"], "train")["pair_id"].to_pylist())
    assert ids(epoch_batches) != ids(epoch(prepared, 8, num_buckets=1, epoch=1))


def test_a_corpus_larger_than_the_shuffle_buffer(prepared, monkeypatch):
    monkeypatch.setattr(batches.training, "_MAX_SHUFFLED_RECORDS", 10)
    first = ids(epoch(prepared))
    assert sorted(first) == sorted(prepared.table(["pair_id"], "train")["pair_id"].to_pylist())
    assert ids(epoch(prepared)) == first != ids(epoch(prepared, epoch=1))
    assert ids(epoch(prepared, skip=3)) == ids(epoch(prepared)[3:])


def test_length_groups_sort_a_batch_and_restore_its_order(prepared):
    settings = batches.BatchSettings(24, num_buckets=1)
    answers = next(iter(batches.training_batches(prepared, "train", settings, 0, 0)))["answer_ids"]
    groups, places = batches.length_groups(answers, 5, pad_id=0)
    assert [len(group) for group in groups] == [4, 5, 5, 5, 5]
    lengths = [(group.numpy() > 0).sum(1) for group in groups]
    assert sorted(np.concatenate(lengths)) == np.concatenate(lengths).tolist()
    rows = [row[row > 0].tolist() for group in groups for row in group.numpy()]
    assert [rows[i] for i in places.numpy()] == [row[row > 0].tolist() for row in answers.numpy()]
    # Each group is padded to its own longest row.
    assert [group.shape[1] for group in groups] == [most.max() for most in lengths]


def test_tokens_are_counted():
    batch = {"question_ids": tf.constant([[2, 3, 0], [2, 5, 3]]), "pair_id": tf.constant([1, 2])}
    assert batches.count_tokens(batch, 0) == (5, 6)


def test_inference_reads_the_shards_in_the_order_of_the_table(prepared, tokenizer):
    rows = prepared.table(["question", "answer"]).to_pylist()
    for side in ("question", "answer"):
        seen = {}
        for positions, ids in batches.inference_batches(prepared, side, 40, 0):
            assert ids.size <= 40 or len(positions) == 1
            for position, row in zip(positions.tolist(), ids.tolist(), strict=True):
                assert position not in seen
                seen[position] = [i for i in row if i]
        assert [seen[i] for i in range(len(rows))] == tokenizer.encode([row[side] for row in rows], 256).to_list()


@pytest.mark.parametrize("damage", ["flipped", "cut", "lost"])
def test_a_damaged_shard_is_named(prepared, tmp_path, damage):
    path = shutil.copytree(prepared.path, tmp_path / "p")
    shard = path / prepared.manifest["shards"]["train"][1]
    content = bytearray(shard.read_bytes())
    size = int.from_bytes(content[:8], "little") + 16
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    shard.write_bytes(content[:-3] if damage == "cut" else content[size:] if damage == "lost" else content)
    pairs = prepared.num_rows("train")
    message = (
        f"hold {pairs - 1} rows; their manifest says {pairs}" if damage == "lost" else f"{shard} is missing or damaged"
    )
    with pytest.raises(ValueError, match=message):
        epoch(PreparedFolder(str(path)))
    with pytest.raises(ValueError, match=message):
        list(batches.inference_batches(PreparedFolder(str(path)), "answer", 4, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"pad_to_multiple": 0}, "expected 1 or more"),
        ({"worker": 2, "num_workers": 2}, "worker is 2; expected 0 to 1"),
        ({"boundaries": (5, 5)}, "expected increasing lengths"),
    ],
)
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        batches.BatchSettings(**wrong)


def test_boundaries_divide_the_pairs_equally():
    # 100 pairs of each length 1 ... 8 in 4 buckets: up to 2, 4, 6, 8.
    assert batches.length_boundaries([(n, 100) for n in range(1, 9)], 4, 10) == [3, 5, 7]
    # A bucket of batch size 60 needs 240 pairs: 800 pairs make 3 buckets, at 267 and 533 pairs.
    assert batches.length_boundaries([(n, 100) for n in range(1, 9)], 4, 60) == [3, 6]
    assert batches.length_boundaries([(5, 10)], 4, 60) == []


def test_buckets_hold_pairs_of_similar_length(prepared):
    def padding(num_buckets):
        epoch_batches = epoch(prepared, 4, num_buckets=num_buckets)
        return sum((batch["answer_ids"] == 0).sum() for batch in epoch_batches)

    assert padding(3) < 0.8 * padding(1)


@pytest.mark.parametrize(
    ("batch_tokens", "expected"),
    [
        (20, [(2, 9), (3, 6), (2, 2)]),  # lengths 9 9, 6 4 3, 2 1
        (5, [(1, 9), (1, 9), (1, 6), (1, 4), (1, 3), (2, 2)]),
        (1_000, [(7, 9)]),
    ],
)
def test_inference_batches_restore_the_order(batch_tokens, expected):
    rows = [[1] * n for n in (3, 9, 1, 9, 4, 2, 6)]
    seen = {}
    widths = []
    for positions, batch in batches.length_sorted(tf.ragged.constant(rows, tf.int32), batch_tokens, pad_id=0):
        widths.append(batch.shape)
        for position, row in zip(positions.tolist(), batch.tolist(), strict=True):
            seen[position] = [i for i in row if i]
    assert [seen[i] for i in range(len(rows))] == rows
    assert widths == expected


def test_a_split_without_pairs_has_no_shards(prepared):
    assert prepared.num_rows("test") == 0
    assert prepared.shards("test") == []


def test_rows_in_memory_come_shuffled_in_batches_of_like_length():
    lengths = np.random.default_rng(0).integers(3, 90, 203)
    epoch = batches.shuffled_batches(lengths, 8, seed=1, epoch=0)
    assert sorted(np.concatenate(epoch).tolist()) == list(range(203))
    assert [len(rows) for rows in epoch] == [8] * 25 + [3]
    spread = np.mean([np.ptp(lengths[rows]) for rows in epoch])
    assert spread < 12  # of 86 without sorting
    again, other = (batches.shuffled_batches(lengths, 8, seed=1, epoch=number) for number in (0, 1))
    assert all(map(np.array_equal, epoch, again))
    assert not all(map(np.array_equal, epoch, other))


def test_rows_are_padded_to_the_longest():
    assert batches.pad_rows([[5], [6, 7, 8]], 0).tolist() == [[5, 0, 0], [6, 7, 8]]
    assert batches.pad_rows([[], []], -1, least=2).tolist() == [[-1, -1], [-1, -1]]
