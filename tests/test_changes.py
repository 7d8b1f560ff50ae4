"""The changes of an index in SQLite: durable, whole, checked."""

import os
import resource
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from docproduct.search.changes import ACKNOWLEDGED_FILE, FILE, Change, ChangeStore, NotStoredError

VECTORS = {"question": np.eye(1, 3, dtype=np.float32), "answer": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def folder(tmp_path):
    """A store with a pair, a removed one, and a replaced one."""
    folder = str(tmp_path / "i.live")
    store = ChangeStore(folder, "encoder")
    store.write([Change(5, {"question": "q", "answer": "a"}, VECTORS), Change(-(2**63), None)])
    store.write([Change(7, {"question": "old", "answer": "a"}, {"answer": VECTORS["answer"]})])
    store.write([Change(7, {"question": "new", "answer": "哮喘"}, {"answer": VECTORS["answer"]})])
    store.close()
    return folder


def states(store):
    return {change.pair_id: change.columns for change in store.read()}


def test_changes_are_read_as_they_were_written(folder):
    store = ChangeStore(folder, "encoder")
    changes = list(store.read())
    assert [change.pair_id for change in changes] == [-(2**63), 5, 7]  # by number of the write, then by id
    assert [change.columns and change.columns["question"] for change in changes] == [None, "q", "new"]
    assert (changes[0].vectors, list(changes[2].vectors)) == ({}, ["answer"])
    for side, vectors in VECTORS.items():
        np.testing.assert_array_equal(changes[1].vectors[side], vectors)
    assert (store.last, store.num_changes) == (3, 3)
    store.forget(2)
    assert list(states(store)) == [7]
    store.close()
    store = ChangeStore(folder, "encoder")
    assert (store.last, store.num_changes) == (3, 1)  # numbers go on
    store.forget(3)
    store.close()
    ChangeStore(folder, "another").close()  # without changes, any encoder


def test_a_second_writer_and_another_encoder_are_refused(folder):
    store = ChangeStore(folder, "encoder")
    with pytest.raises(BlockingIOError, match="Another process is writing"):
        ChangeStore(folder, "encoder")
    store.close()
    with pytest.raises(
        ValueError, match=r"3 changes with vectors of another encoder \(fingerprint encoder; received one with another"
    ):
        ChangeStore(folder, "another")
    ChangeStore(folder, "encoder").close()  # no lock is left


def damage(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_damaged_files_are_named(folder, tmp_path):
    path = tmp_path / "i.live" / FILE
    whole = path.read_bytes()

    def check(message):
        with pytest.raises(ValueError, match=rf"changes.sqlite is damaged .*{message}.*Restore"):
            list(ChangeStore(folder, "encoder").read())
        path.write_bytes(whole)

    damage(path, b'"new"', b'"nes"')
    store = ChangeStore(folder, "encoder")
    with pytest.raises(ValueError, match="the pair 7 is not as it was written"):
        list(store.read())
    store.close()
    path.write_bytes(whole)
    damage(path, b"SQLite format 3", b"SQLite format 4")
    check("not a database")
    path.write_bytes(whole[:5_000])
    check("malformed")
    path.unlink()
    check("it holds writes up to number 0 of 3")
    (tmp_path / "i.live" / ACKNOWLEDGED_FILE).write_text("4")
    check("up to number 3 of 4")
    (tmp_path / "i.live" / ACKNOWLEDGED_FILE).write_text("no number")
    check("acknowledged holds b'no number'")
    (tmp_path / "i.live" / ACKNOWLEDGED_FILE).write_bytes(bytes(20))  # its size was on the disk, but not its content
    ChangeStore(folder, "encoder").close()


def test_a_lost_write_ahead_log_is_noticed(folder, tmp_path):
    # A process that ends without closing leaves the last writes in the log.
    script = (
        "import os, sys; from docproduct.search.changes import Change, ChangeStore\n"
        "store = ChangeStore(sys.argv[1], 'encoder')\n"
        "store.write([Change(8, {'question': 'last'})]); store.write([Change(9, None)]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, folder], check=True)
    log = tmp_path / "i.live" / f"{FILE}-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[:-5_000])
    with pytest.raises(ValueError, match="up to number 4 of 5"):
        ChangeStore(folder, "encoder")


def test_a_full_disk_changes_nothing(folder):
    store = ChangeStore(folder, "encoder")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(store.path), before[1]))
    try:
        with pytest.raises(NotStoredError, match="changes.sqlite cannot be written.*Nothing was changed"):
            store.write([Change(number, {"question": "x" * 5_000}) for number in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (set(states(store)), store.last) == ({5, 7, -(2**63)}, 3)
    store.write([Change(8, None)])
    store.close()
    store = ChangeStore(folder, "encoder")
    assert set(states(store)) == {5, 7, 8, -(2**63)}
    store.close()
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
