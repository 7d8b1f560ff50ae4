"""Kills processes that write to a live index, and fills their disk; every acknowledged change must be there afterwards.

    python -m tests.kill_live --kills=20 --full_disks=5

A process adds, replaces and removes pairs, and writes the index folder anew now and then. It prints what it will do,
and that it is done. After some changes it is killed with SIGKILL; a limit on the size of files stands for a full disk.
Then the folder is opened: its pairs are those of the acknowledged changes, or of these and the one that was being made.
Ends with one line of JSON.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import types

import numpy as np
import pyarrow as pa
from absl import app, flags

from data_pipeline import cleaning
from docproduct.index.content import Content
from docproduct.index.folder import word_indexes, write
from docproduct.index.live import LiveFolder, NewPair
from docproduct.index.settings import IndexSettings
from docproduct.search import threshold
from docproduct.search.changes import NotStoredError

_COMPACT = 25  # changes


class Encoder:
    """Stands for a retriever: the vector of a text is random, and always the same."""

    tokenizer = None
    dtype_policy = "float32"

    def fingerprint(self):
        return "encoder"

    def embed_few(self, texts, side):
        del side
        vectors = np.stack([np.random.default_rng(abs(cleaning.hash64(text))).normal(size=16) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def embed(self, texts, side):
        return types.SimpleNamespace(head=self.embed_few(texts, side))


def texts_of(number, version):
    question, answer = f"question {number} of version {version}?", f"answer {number} {version} " + "word " * 50
    return {"question": question, "answer": answer.strip(), "source": "s", "focus": ""}


def write_index(path, num_pairs=20, **settings):
    """Writes an index of pairs 0, 1, ... in their version 0."""
    texts = [texts_of(number, 0) for number in range(num_pairs)]
    pairs = pa.table(
        {
            "pair_id": pa.array(range(num_pairs), pa.int64()),
            **{name: [each[name] for each in texts] for name in texts[0]},
            **{f"{side}_group": [cleaning.group(each[side]) for each in texts] for side in ("question", "answer")},
        }
    )
    vectors = {side: Encoder().embed_few([each[side] for each in texts], side) for side in ("question", "answer")}
    rows, settings = np.arange(num_pairs), IndexSettings(**{"hybrid": "rrf"} | settings)
    content = Content(pairs, np.full(num_pairs, ""), vectors, rows, np.zeros_like(rows))
    made_of = {"encoder": {"name": "e", "fingerprint": "encoder", "dtype_policy": "float32"}, "prepared": ""}
    made_of |= {"settings": vars(settings) | {"keep": []}, "threshold": threshold.UNCALIBRATED}
    os.makedirs(path)
    write(path, content, word_indexes(pairs, settings), settings, made_of)


def write_forever(path, seed, disk_bytes):
    """Changes pairs until it is killed; with a limit, the disk is full, then it is not any more."""
    draw, live = random.Random(seed), LiveFolder(path, Encoder(), compact_changes=_COMPACT)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step in range(10**9):
        if disk_bytes and step == 20:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disk_bytes, limit[1]))
        if disk_bytes and step == 60:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        number, version = draw.randrange(40), draw.randrange(10**6)
        removes = draw.random() < 0.3
        print(json.dumps([number, None if removes else version]), flush=True)
        try:
            if removes:
                live.remove(number)
            else:
                live.put([NewPair(number, live.cleaned(texts_of(number, version)))])
            print("done", flush=True)
        except NotStoredError:
            print("refused", flush=True)


def state_of(live):
    """Returns the version of each pair, after a check that searches by vectors and words find it."""
    versions = {}
    for number in range(40):
        texts = live.texts(number)
        if texts is None:
            continue
        versions[number] = int(texts["question"].split()[-1][:-1])
        assert texts == texts_of(number, versions[number]), "half a pair"
        (result,) = live.index.search_many(
            Encoder().embed_few([texts["question"]], "question"), 1, "question", [texts["question"]]
        )
        assert (result.hits[0].pair_id, result.stored) == (number, True)
    assert live.index.pairs.num_pairs == len(versions)
    return versions


def run_once(path, present, seed, num_changes, disk_bytes=0):
    """Kills a writer after a number of changes, and checks what is there.

    Args:
      path: The index folder.
      present: {number: version} of the pairs before; becomes what is there afterwards.
      seed: Of the changes.
      num_changes: Acknowledged changes after which it is killed.
      disk_bytes: Largest size of a file while the disk is full.

    Returns:
      Number of refused changes.
    """
    arguments = [sys.executable, "-m", "tests.kill_live", f"--path={path}", f"--seed={seed}", f"--disk={disk_bytes}"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    refused, pending, done = 0, None, 0
    with process.stdout:
        for line in process.stdout:  # and what it had printed when it was killed
            if line.startswith("["):
                pending = json.loads(line)
                if done >= num_changes:
                    process.kill()
                continue
            if line.startswith("done"):
                done += 1
                change(present, pending)
            refused += line.startswith("refused")
            pending = None
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("The writer has ended by itself; see its message above.")
    live = LiveFolder(path, Encoder(), compact_changes=0)
    state = state_of(live)
    live.close()
    with_pending = dict(present)
    if pending:
        change(with_pending, pending)
    assert state in (present, with_pending), "an acknowledged change is lost"
    present.clear()
    present |= state
    return refused


def change(present, pending):
    number, version = pending
    if version is None:
        present.pop(number, None)
    else:
        present[number] = version


def main(argv):
    """Writes, or kills those who write."""
    del argv
    values = flags.FLAGS
    if values.path:
        write_forever(values.path, values.seed, values.disk)
        return
    draw, refused = random.Random(values.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "index")
        write_index(path)
        present = dict.fromkeys(range(20), 0)
        for number in range(values.kills + values.full_disks):
            disk_bytes = 0 if number < values.kills else 40_000
            refused += run_once(path, present, number, draw.randrange(5, 90) + (30 if disk_bytes else 0), disk_bytes)
            print(f"{number + 1}: {len(present)} pairs are there", file=sys.stderr)
    print(json.dumps({"kills": values.kills, "full_disks": values.full_disks, "refused": refused, "lost": 0}))


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 20, "Number of processes that are killed.")
    flags.DEFINE_integer("full_disks", 5, "Number of processes whose disk becomes full, before they are killed.")
    flags.DEFINE_string("path", None, "Of the process that writes: the index folder.")
    flags.DEFINE_integer("seed", 0, "Seed.")
    flags.DEFINE_integer("disk", 0, "Of the process that writes: largest size of a file.")
    app.run(main)
