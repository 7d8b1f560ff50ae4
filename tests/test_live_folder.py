"""A live folder: who may write, what a failed write leaves, and how the folder is written anew."""

import os
import shutil
from types import SimpleNamespace

import pytest

from docproduct.index import compaction
from docproduct.index.live import LiveFolder, NewPair
from docproduct.search.changes import NotStoredError
from tests.kill_live import Encoder, texts_of, write_index


@pytest.fixture
def folder(tmp_path):
    """A small index with a stand-in for the encoder, and a function that opens it."""
    path = str(tmp_path / "i")
    write_index(path)
    opened = []

    def open_live(encoder=None, **settings):
        opened.append(LiveFolder(path, encoder or Encoder(), **{"compact_changes": 0} | settings))
        return opened[-1]

    yield SimpleNamespace(path=path, open=open_live)
    for live in opened:
        live.close()


def new_pair(live, number, version=1):
    return NewPair(number, live.cleaned(texts_of(number, version)))


def test_a_second_writer_and_another_encoder_are_refused(folder, tmp_path):
    live = folder.open()
    with pytest.raises(BlockingIOError, match="Another process is writing"):
        LiveFolder(folder.path, Encoder())
    live.put([new_pair(live, 50)])
    live.close()
    other = Encoder()
    other.fingerprint = lambda: "another"
    with pytest.raises(ValueError, match="1 changes with vectors of another encoder"):
        folder.open(other)
    with pytest.raises(ValueError, match="There is no folder"):
        LiveFolder(str(tmp_path / "nowhere"), Encoder())
    assert not (tmp_path / "nowhere.live").exists()
    assert folder.open().texts(50)["question"] == "question 50 of version 1?"


def test_a_failed_reload_leaves_the_encoder_of_the_changes(folder):
    live, other = folder.open(), Encoder()
    other.fingerprint = lambda: "another"
    with pytest.raises(ValueError, match="was built with the encoder"):
        live.reopen(other)
    live.put([new_pair(live, 50)])  # with vectors of the former one
    live.close()
    assert folder.open().texts(50) == texts_of(50, 1)


def test_the_folder_is_written_anew_in_the_background(folder):
    live = folder.open(compact_changes=4)
    exchanged = []
    live.on_exchange = exchanged.append
    live.put([new_pair(live, number) for number in range(18, 22)])
    live.put([new_pair(live, 30)])  # during compaction, or after it
    live.wait()
    assert exchanged == [live.index]
    assert live.index.manifest["compactions"] == 1
    assert live.index.pairs.num_pairs == live.index.manifest["counts"]["pairs"] + live.num_changes == 23
    live.remove(30)
    live.compact()
    assert live.texts(30) is None
    assert live.texts(21) == texts_of(21, 1)


def test_a_quarter_of_the_pairs_is_enough(folder, monkeypatch):
    live = folder.open(compact_changes=1_000)
    monkeypatch.setattr(live, "_compact_in_background", lambda: None)
    for number, is_due in ((99, False), (100, True)):
        live.put([new_pair(live, other) for other in range(100, 100 + number)])
        assert (live.num_changes, live._is_due) == (number, is_due)
    monkeypatch.setattr(type(live), "changed_share", 0.24)
    assert not live._is_due


def test_a_compaction_that_failed_is_not_repeated_with_each_write(folder, monkeypatch):
    live, tries = folder.open(compact_changes=1), []

    def fails():
        tries.append(live._store.last)
        raise OSError("the disk is full")

    monkeypatch.setattr(live, "compact", fails)
    monkeypatch.setattr("docproduct.index.live._WRITES_BEFORE_RETRY", 3)
    for number in range(5):
        live.put([new_pair(live, 50, version=number)])
        live.wait()
    assert tries == [1, 4]


def test_an_index_that_was_replaced_meanwhile_is_not_written_over(folder, tmp_path):
    live = folder.open()
    live.put([new_pair(live, 50)])
    shutil.rmtree(folder.path)
    write_index(folder.path, num_pairs=25)
    with pytest.raises(ValueError, match="replaced by another one"):
        live.compact()
    live.reopen(Encoder())  # the change is joined to the new folder
    assert (live.index.pairs.num_pairs, live.texts(50)["answer"]) == (26, texts_of(50, 1)["answer"])


@pytest.mark.parametrize("is_complete", [True, False])
def test_an_interrupted_exchange_is_completed(folder, is_complete):
    live = folder.open()
    live.put([new_pair(live, 50)])
    path = compaction.write_new(live.index.manifest, live.index.settings, live.index.snapshot(), folder.path, Encoder())
    live.close()
    os.rename(folder.path, os.path.join(compaction.live_dir(folder.path), "old"))
    if not is_complete:
        os.remove(os.path.join(path, "manifest.json"))
    live = folder.open()
    assert live.index.manifest["counts"]["pairs"] == (21 if is_complete else 20)
    assert live.texts(50) == texts_of(50, 1)
    assert not {"new", "old"} & {*os.listdir(compaction.live_dir(folder.path))}


def test_a_failed_write_changes_nothing(folder, monkeypatch):
    live = folder.open()

    def fail(*_):
        raise NotStoredError("full")

    monkeypatch.setattr(live._store, "write", fail)
    with pytest.raises(NotStoredError):
        live.put([new_pair(live, 3), new_pair(live, 50)])
    with pytest.raises(NotStoredError):
        live.remove(3)
    assert (live.texts(3), live.texts(50), live.num_changes) == (texts_of(3, 0), None, 0)


def test_all_pairs_can_be_removed_and_others_added(folder):
    live = folder.open()
    for number in range(20):
        assert live.remove(number)
    vectors = Encoder().embed_few(["question 3 of version 0?"], "question")
    (result,) = live.index.search_many(vectors, 1, "answer", ["question 3 of version 0?"])
    assert (result.hits, result.stored, result.is_answerable(-1.0)) == ([], False, False)
    with pytest.raises(ValueError, match="No pair is left"):
        live.compact()
    live.put([new_pair(live, 3)])
    (result,) = live.index.search_many(vectors, 5, "answer", ["question 3 of version 1?"])
    assert ([hit.pair_id for hit in result.hits], result.stored) == ([3], True)
    (result,) = live.index.search_many(vectors, 5, "answer", ["question 3 of version 0?"])
    assert ([hit.pair_id for hit in result.hits], result.stored, result.num_own) == ([3], False, 0)


def test_an_old_folder_that_cannot_be_removed_stops_no_compaction(folder, monkeypatch):
    live = folder.open()

    def compacted(number):
        live.put([new_pair(live, number)])
        live.compact()
        return sum(name.startswith("old") for name in os.listdir(f"{folder.path}.live"))

    monkeypatch.setattr("docproduct.index.compaction.shutil.rmtree", lambda *_, **__: None)
    assert [compacted(number) for number in (21, 22, 23)] == [1, 2, 3]
    monkeypatch.undo()
    assert compacted(24) == 0
    live.close()
    assert folder.open().index.num_answers == 24


def test_a_change_does_not_hash_the_encoder_anew(folder, monkeypatch):
    """It would read all weights, which takes longer than the change."""
    live = folder.open()
    monkeypatch.setattr(Encoder, "fingerprint", lambda encoder: pytest.fail("hashed"))
    assert live.put([new_pair(live, 50)]) == ["added"]
    assert live.remove(50)
