"""Weights between the start and the end of a training."""

import dataclasses
import json
import os

import numpy as np
import pytest

from docproduct.layers import checkpoints
from docproduct.systems.retriever import blend
from docproduct.systems.retriever.folder import WEIGHTS_FILE
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.systems.retriever.train import train
from tests.conftest import SETTINGS


def test_a_share_of_0_and_1_is_an_end_exactly():
    random = np.random.default_rng(0)
    start, end = ({"a": random.normal(size=(3, 7)).astype(np.float32)} for _ in range(2))
    np.testing.assert_array_equal(blend.blended(start, end, 0.0)["a"], start["a"])
    np.testing.assert_array_equal(blend.blended(start, end, 1.0)["a"], end["a"])
    np.testing.assert_allclose(blend.blended(start, end, 0.25)["a"], 0.75 * start["a"] + 0.25 * end["a"], rtol=1e-6)
    assert blend.blended(start, end, 0.25)["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("start", "scores", "expected"),
    [
        # The best gain is 0.20, of which 0.18 is enough: 0.78.
        (0.6, {1.0: 0.79, 0.75: 0.80, 0.5: 0.78}, 0.5),
        (0.6, {1.0: 0.79, 0.75: 0.80, 0.5: 0.77}, 0.75),
        (0.6, {1.0: 0.80, 0.75: 0.77, 0.5: 0.77}, 1.0),
        # Without a gain, the best is taken.
        (0.9, {1.0: 0.80, 0.75: 0.82, 0.5: 0.85}, 0.5),
        (0.9, {1.0: 0.80, 0.75: 0.86, 0.5: 0.85}, 0.75),
    ],
)
def test_the_lowest_share_that_keeps_nine_tenths_of_the_gain(start, scores, expected):
    assert blend.choose(scores.__getitem__, start) == (expected, scores)


def weights(folder):
    return checkpoints.read_safetensors(str(folder), WEIGHTS_FILE)


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    """A first training, and its continuation with the whole of the trained weights."""
    folder = tmp_path_factory.mktemp("blend")
    settings = dataclasses.replace(SETTINGS, epochs=1, keep="last")
    first = dataclasses.replace(config, settings=settings)
    train(first, str(folder / "first"))
    second = dataclasses.replace(first, encoder_dir=str(folder / "first"), trained_share=1.0)
    train(second, str(folder / "second"))
    return second, weights(folder / "first"), weights(folder / "second"), folder


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_trained_weights_is_kept(runs, tmp_path, share):
    config, start, end, _ = runs
    history = train(dataclasses.replace(config, trained_share=share), str(tmp_path / "m"))
    kept = weights(tmp_path / "m")
    assert any(np.abs(end[name] - start[name]).max() > 1e-4 for name in end)
    for name, value in kept.items():
        np.testing.assert_allclose(value, (1 - share) * start[name] + share * end[name], atol=1e-6)
        if share == 0:
            np.testing.assert_array_equal(value, start[name])
    assert history["best"]["trained_share"] == share
    if share == 0:
        assert history["best"]["RR@10"] == pytest.approx(history["epochs"][0]["RR@10"])


def test_dev_chooses_the_share(runs, tmp_path):
    config, start, end, _ = runs
    history = train(dataclasses.replace(config, trained_share=None), str(tmp_path / "m"))
    share = history["best"]["trained_share"]
    assert set(history["shares"]) == {"1", "0.75", "0.5"}
    assert history["best"]["RR@10"] == pytest.approx(history["shares"][f"{share:g}"])
    for name, value in weights(tmp_path / "m").items():
        np.testing.assert_allclose(value, (1 - share) * start[name] + share * end[name], atol=1e-6)
    card = (tmp_path / "m/README.md").read_text()
    assert f"{share:g} of the trained weights" in card
    assert json.loads((tmp_path / "m/metrics.json").read_text()) == history


def test_a_run_that_is_killed_after_the_blend_blends_once(runs, tmp_path, monkeypatch):
    config, start, end, _ = runs
    half = dataclasses.replace(config, trained_share=0.5)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RetrieverTask, "report", killed)
    with pytest.raises(KeyboardInterrupt):
        train(half, str(tmp_path / "m"))
    monkeypatch.undo()
    assert not os.path.exists(tmp_path / "m/metrics.json")
    history = train(half, str(tmp_path / "m"), resume=True)
    assert history["best"]["trained_share"] == 0.5
    for name, value in weights(tmp_path / "m").items():
        np.testing.assert_allclose(value, (start[name] + end[name]) / 2, atol=1e-6)
