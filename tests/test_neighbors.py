"""Epochs in which pairs with similar questions share a batch."""

import numpy as np
import pytest

from data_pipeline.batches import BatchSettings
from data_pipeline.batches.neighbors import nearest_of_all, neighbor_batches, neighbor_clusters


def topics(num_topics, pairs_a_topic, seed=0):
    """Returns unit vectors around `num_topics` directions in random order, and the topic of each: [N, D], [N]."""
    random = np.random.default_rng(seed)
    topic = random.permutation(np.repeat(np.arange(num_topics), pairs_a_topic))
    vectors = 10 * np.eye(num_topics)[topic] + random.normal(size=(len(topic), num_topics))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), topic


def test_clusters_are_of_one_topic():
    vectors, topic = topics(num_topics=12, pairs_a_topic=8)
    clusters, remaining = neighbor_clusters(vectors, [np.arange(96)], 4, np.random.default_rng(1))
    assert clusters.shape == (24, 4)
    assert not len(remaining)
    assert sorted(clusters.reshape(-1)) == list(range(96))
    assert (topic[clusters] == topic[clusters[:, :1]]).all()


def test_a_cluster_holds_no_equal_text_of_its_first_pair():
    vectors, _ = topics(num_topics=3, pairs_a_topic=20)
    question_group, answer_group = np.arange(60) // 2, np.arange(60) % 30
    clusters, remaining = neighbor_clusters(vectors, [question_group, answer_group], 5, np.random.default_rng(0))
    assert sorted([*clusters.reshape(-1), *remaining]) == list(range(60))
    for key in (question_group, answer_group):
        assert (key[clusters[:, 1:]] != key[clusters[:, :1]]).all()


def test_clusters_take_the_nearest_pairs_first():
    angles = np.array([0.0, 0.1, 0.3, 0.7])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    clusters, _ = neighbor_clusters(vectors, [], 2, np.random.default_rng(0))
    first = clusters[0, 0]  # any of the four, whose nearest pair is still free
    assert clusters[0, 1] == {0: 1, 1: 0, 2: 1, 3: 2}[first]


@pytest.mark.parametrize("cluster_size", [1, 4])
def test_every_pair_is_in_one_batch(cluster_size):
    vectors, _ = topics(num_topics=10, pairs_a_topic=13)
    lengths = np.random.default_rng(0).integers(10, 100, size=130)
    settings = BatchSettings(16, num_buckets=2, seed=3)

    def epoch(number):
        return neighbor_batches(vectors, [np.arange(130)], lengths, cluster_size, settings, number)

    first = epoch(0)
    assert [len(rows) for rows in first] == [16] * 8 + [2]
    assert sorted(np.concatenate(first)) == list(range(130))
    assert all(np.array_equal(a, b) for a, b in zip(first, epoch(0), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, epoch(1), strict=True))


def test_batches_are_of_similar_length():
    vectors, topic = topics(num_topics=64, pairs_a_topic=16)
    lengths = 10 + 3 * topic  # a topic's pairs are of one length

    def spread(num_buckets):
        settings = BatchSettings(32, num_buckets=num_buckets)
        batches = neighbor_batches(vectors, [np.arange(1024)], lengths, 4, settings, 0)
        return np.mean([np.std(lengths[rows]) for rows in batches])

    assert spread(8) < 0.3 * spread(1)


def test_fewer_pairs_than_a_cluster_are_one_batch():
    vectors, _ = topics(num_topics=3, pairs_a_topic=1)
    batches = neighbor_batches(vectors, [np.arange(3)], np.ones(3, int), 8, BatchSettings(64), 0)
    assert [sorted(rows) for rows in batches] == [[0, 1, 2]]


def test_large_corpora_are_searched_in_windows(monkeypatch):
    monkeypatch.setattr("data_pipeline.batches.neighbors._WINDOW", 50)
    vectors, topic = topics(num_topics=4, pairs_a_topic=40)
    clusters, remaining = neighbor_clusters(vectors, [np.arange(160)], 4, np.random.default_rng(0))
    assert sorted([*clusters.reshape(-1), *remaining]) == list(range(160))
    assert np.mean(topic[clusters] == topic[clusters[:, :1]]) > 0.8
    assert nearest_of_all(vectors, 4) is None


def test_neighbors_searched_once_equal_those_of_each_epoch():
    vectors, _ = topics(num_topics=10, pairs_a_topic=13)
    arguments = vectors, [np.arange(130)], np.ones(130, int), 4, BatchSettings(16)
    nearest = nearest_of_all(vectors, 4)
    for epoch in range(2):
        batches = neighbor_batches(*arguments, epoch, nearest)
        np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(neighbor_batches(*arguments, epoch)))
    assert nearest_of_all(vectors, 1) is None
