"""Token folders: what is written is read, packing loses nothing, and sampling keeps questions apart."""

import itertools
import json
import os
import pathlib

import numpy as np
import pytest

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings, training_batches
from data_pipeline.folders import token_folder
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import TokenFolder, TokenRow
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts.answer_prompts import PromptSettings, with_markers
from data_pipeline.token_rows import packing
from data_pipeline.token_rows.pair_rows import FocusSample, PairRows, write_closed_book
from data_pipeline.tokenizers import train_byte_pairs
from docproduct.systems.generator.dev import read_rows
from docproduct.systems.generator.losses import PAD
from tests.conftest import write_csv

ROWS = [TokenRow(list(range(i % 5)), list(range(1, 2 + i % 7)), i - 20) for i in range(53)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_pairs(["what is the cause of it? it is a cold."], 300)


def folder_of(path, tokenizer, rows=ROWS):
    origin = token_folder.Origin("closed_book", {}, {})
    token_folder.write(str(path), origin, tokenizer, {"train": iter(rows), "dev": rows[:3]})
    return TokenFolder(str(path))


def test_what_is_written_is_read(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "t", tokenizer)
    assert (folder.num_rows("train"), folder.num_rows("dev"), folder.num_rows("test")) == (53, 3, 0)
    assert read_rows(folder, "train") == ROWS
    assert read_rows(folder, "dev") == ROWS[:3]
    assert folder.tokenizer().fingerprint == tokenizer.fingerprint
    longest = max(len(row.prompt_ids) + len(row.target_ids) for row in ROWS)
    assert folder.manifest["counts"]["train"]["longest"] == longest


def test_batches_hold_every_row_once(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "t", tokenizer)
    found = {}
    for batch in training_batches(folder, "train", BatchSettings(8, 2), PAD, 0):
        columns = (batch[name].numpy() for name in TokenRow._fields)
        for prompt, target, pair in zip(*columns, strict=True):
            assert pair not in found
            found[pair] = TokenRow(prompt[prompt != PAD].tolist(), target[target != PAD].tolist(), pair)
    assert sorted(found.values(), key=lambda row: row.pair_id) == ROWS


def test_another_vocabulary_is_refused(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "t", tokenizer)
    with_markers(tokenizer).save(folder.path)
    with pytest.raises(ValueError, match="not the one that made its ids"):
        folder.tokenizer()


def test_packing_loses_nothing_and_cuts_only_what_is_too_long():
    random = np.random.default_rng(0)
    documents = [random.integers(1, 50, length).tolist() for length in random.integers(1, 30, 200)]
    documents.append(list(range(1, 46)))
    windows = packing.pack(documents, 20, 0)
    assert all(2 <= len(window) <= 20 for window in windows)
    # What stands between two ends, or fills a window.
    parts = [list(part) for window in windows for zero, part in itertools.groupby(window, lambda i: i == 0) if not zero]
    expected = [ids[start : start + 19] for ids in documents for start in range(0, len(ids), 19)]
    assert sorted(parts) == sorted(expected)
    assert all(window[0] == 0 for window in windows)
    # A part of 19 tokens leaves no room for an end: most often it has none.
    assert all((window[-1] == 0) == (0 in window[1:]) for window in windows)
    full = sum(map(len, windows)) / (20 * len(windows))
    assert full > 0.97


def test_documents_of_a_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\nstill  one\n<|endoftext|>\n\n<|endoftext|>\ntwo\n", encoding="utf-8")
    assert list(packing.read_documents(str(path))) == ["one\nstill one", "two"]
    lines = [f"line {i} of a long book" for i in range(3_000)]
    path.write_text("\n".join(lines), encoding="utf-8")
    parts = list(packing.read_documents(str(path)))
    assert len(parts) > 20
    assert "\n".join(parts) == "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        b"one\r\n<|endoftext|>\r\ntwo\r\n",
        b"one\n<|endoftext|>\n<|endoftext|>\ntwo",
        b"<|endoftext|>\none\n \t<|endoftext|> \ntwo\n<|endoftext|>",
        b"one<|endoftext|>two",
        b"<|endoftext|><|endoftext|>one <|endoftext|><|endoftext|> <|endoftext|> two<|endoftext|><|endoftext|>",
        b"one &lt;|endoftext|&gt; two",  # cleaning makes it the mark
        b"one <|end\xe2\x80\x8boftext|> two",  # as without the invisible blank
    ],
)
def test_separators_as_editors_leave_them(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert list(packing.read_documents(str(path))) == ["one", "two"]


@pytest.mark.parametrize("end", ["", "\n", "\nshort\nlines\n"])
@pytest.mark.parametrize("word", ["word ", "詞"])
def test_a_book_of_endless_lines_is_cut(tmp_path, word, end):
    path = tmp_path / "a.txt"
    path.write_text(word * 5_000 + end, encoding="utf-8")
    parts = list(packing.read_documents(str(path)))
    assert max(map(len, parts)) <= 4_000
    assert sum(part.count(word.strip()) for part in parts) == 5_000  # no word is cut
    assert len(parts) > 1


def test_a_few_documents_leave_one_for_dev():
    for count in (2, 3, 10):
        found = packing.split_documents([f"document {i}" for i in range(count)] * 2, 0, 1e-9)
        assert (len(found["train"]), len(found["dev"])) == (count - 1, 1)


@pytest.mark.parametrize("content", ["", " \n\n", "<|endoftext|>\n"])
def test_an_empty_book_is_refused(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"empty.txt holds no text"):
        packing.write_windows(str(tmp_path / "t"), [str(path)], None, 300, 32)
    assert not (tmp_path / "t").exists()


def test_windows_of_texts_and_pairs(prepared, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n<|endoftext|>\n".join(f"the document {i} says {i * i}" for i in range(40)), encoding="utf-8")
    arguments = (str(tmp_path / "t"), [str(path)], prepared, 300, 200, 0.2, 1)
    packing.write_windows(*arguments)
    folder = TokenFolder(str(tmp_path / "t"))
    tokenizer = folder.tokenizer()
    texts = {
        split: "".join(tokenizer.show(row.target_ids) for row in read_rows(folder, split)) for split in ("train", "dev")
    }
    pairs = prepared.table(["question", "answer"], "dev").to_pylist()
    assert all(pair["answer"].split()[-1] in texts["dev"] for pair in pairs)
    told = {split: sum(f"document {i} " in texts[split] for i in range(40)) for split in texts}
    assert told["train"] + told["dev"] == 40
    assert told["dev"] >= 2
    before = os.stat(folder.shards("train")[0]).st_mtime_ns
    packing.write_windows(*arguments)  # it is there
    assert os.stat(folder.shards("train")[0]).st_mtime_ns == before
    with pytest.raises(ValueError, match=r"was made differently: seed was 1, is 2\. Give another"):
        packing.write_windows(*arguments[:-1], 2)
    with pytest.raises(ValueError, match=r"200, is 100; .* seed was 1, is None; of another vocabulary; of other texts"):
        packing.write_windows(str(tmp_path / "t"), [], prepared, 301, 100, 0.2, 1)
    with pytest.raises(ValueError, match="No document is in dev"):
        packing.write_windows(str(tmp_path / "none"), [str(tmp_path / "a.txt")], None, 300, 200, 0.0)
    assert not (tmp_path / "none").exists()
    packing.write_windows(str(tmp_path / "pairs"), [], prepared, 300, 200, seed=1)
    packing.write_windows(str(tmp_path / "pairs"), [], prepared, 300, 200, seed=2)  # it draws nothing of pairs


def test_closed_book_rows(prepared, tokenizer, tmp_path):
    settings = PromptSettings(0, 40, 20)
    manifest = write_closed_book(str(tmp_path / "t"), prepared, tokenizer, settings)
    folder = TokenFolder(str(tmp_path / "t"))
    markers = folder.tokenizer()
    pairs = {pair["pair_id"]: pair for pair in prepared.table(["pair_id", "question", "answer", "split"]).to_pylist()}
    for split in ("train", "dev"):
        rows = read_rows(folder, split)
        assert {row.pair_id for row in rows} == {i for i, pair in pairs.items() if pair["split"] == split}
        for row in rows:
            pair = pairs[row.pair_id]
            question = f"<question> {pair['question']} <answer>"
            assert markers.show(row.prompt_ids) == question
            assert markers.decode(row.target_ids) == pair["answer"]
    assert manifest["shortened"] == {"questions_shortened": 0, "answers_cut": 0, "contexts_missing": 0}


def test_what_is_shortened_is_counted(tokenizer):
    maker = PairRows(with_markers(tokenizer), PromptSettings(0, 30, 10))
    rows = [maker.row(i, "q" * 10 * i, "a" * 9 * i) for i in range(1, 4)]
    assert [(len(row.prompt_ids), len(row.target_ids)) for row in rows] == [(12, 10), (20, 10), (20, 10)]
    assert maker.counts == {"questions_shortened": 2, "answers_cut": 2, "contexts_missing": 0}


MARK = "<|endoftext|>"


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("what?", "a cold.<|endoftext|>", ("what?", "a cold.")),
        ("<|endoftext|> what?", "<|endoftext|><|endoftext|>a cold. <|endoftext|>", ("what?", "a cold.")),
        ("what?", "a cold.<|endoftext|>why?", None),
        ("what?<|endoftext|>why?", "a cold.", None),
        ("what?", "<|endoftext|>", None),
    ],
)
def test_the_end_of_a_text_is_never_learned_as_letters(tokenizer, question, answer, expected):
    tokenizer = with_markers(tokenizer)
    maker = PairRows(tokenizer, PromptSettings(2, 140, 40))
    row = maker.row(1, question, answer, [("q", f"near{MARK}"), ("q", f"a{MARK}b"), (f"{MARK}far", "c")])
    if expected is None:
        assert row is None
        assert maker.counts["rows_left_out_for_end_of_text"] == 1
        return
    shown = f"<question> far <answer> c <end> <question> q <answer> near <end> <question> {expected[0]} <answer>"
    assert tokenizer.show(row.prompt_ids) == shown
    assert tokenizer.show(row.target_ids) == f"{expected[1]} <end>"
    removed = 2 + (MARK in question) + (MARK in answer)
    assert maker.counts["end_of_text_removed"] == removed
    assert maker.counts["contexts_left_out_for_end_of_text"] == 1


@pytest.fixture
def marked(tmp_path, vocab_file):
    rows = [("q1?", f"cold{MARK}"), ("q2?", f"flu{MARK}fever"), *((f"q{i}?", f"tea {i}") for i in range(3, 40))]
    prepare(PrepareSettings((write_csv(tmp_path / "p.csv", rows),), vocab_file, dev_share=0.3), str(tmp_path / "p"))
    return PreparedFolder(str(tmp_path / "p"))


def test_pairs_that_hold_the_end_of_a_text(marked, tokenizer, tmp_path):
    manifest = packing.write_windows(str(tmp_path / "w"), [], marked, 300, 60)
    folder = TokenFolder(str(tmp_path / "w"))
    rows = [row for split in ("train", "dev") for row in read_rows(folder, split)]
    end = folder.tokenizer().end_id
    texts = [list(part) for row in rows for is_end, part in itertools.groupby(row.target_ids, end.__eq__) if not is_end]
    documents = [folder.tokenizer().decode(ids) for ids in texts]
    assert {"q1?\ncold", "q2?\nflu", "fever"} < set(documents)
    assert not any("endoftext" in text for text in documents)
    assert manifest["shortened"] == {"pairs_split_at_end_of_text": 1}
    manifest = write_closed_book(str(tmp_path / "c"), marked, tokenizer, PromptSettings(0, 60, 30))
    assert sum(count["rows"] for count in manifest["counts"].values()) == 38
    assert manifest["shortened"]["rows_left_out_for_end_of_text"] == 1
    assert manifest["shortened"]["end_of_text_removed"] == 1


class _Table:
    """A prepared folder of which only the columns are asked for."""

    path = "table"

    def __init__(self, rows):
        self._rows = rows

    def table(self, columns):
        del columns
        return self

    def to_pydict(self):
        names = ("split", "focus", "question_group")
        return dict(zip(names, map(list, zip(*self._rows, strict=True)), strict=True))


def test_the_recipe_takes_a_few_pairs_of_the_largest_topics():
    # Focus i has i + 1 questions, each with two answers; those of F8 stand under f8, too, but for two.
    rows = [("train", f"f{i}", 100 * i + q) for i in range(9) for q in range(i + 1) for _ in range(2)]
    rows += [("train", "F8", group) for group in (800, 801, 802, 803, 804, 805, 9_000, 9_001)]
    rows += [(split, "f8", 8_000) for split in ("dev", "test")]
    found = FocusSample(3, 4, 1).rows(_Table(rows), seed=0)
    chosen = {split: [rows[row] for row in numbers] for split, numbers in found.items()}
    for split, count in ((splits.TRAIN, 4), (splits.DEV, 1)):
        foci = [focus for _, focus, _ in chosen[split]]
        assert sorted(foci) == sorted(["f6", "f7", "f8"] * count)
    groups = [group for numbers in chosen.values() for _, _, group in numbers]
    assert len(set(groups)) == len(groups) == 15
    assert 8_000 not in groups  # the prepared folder's own dev and test stay unseen
    more = FocusSample(5, 4, 1).rows(_Table(rows), seed=0)
    foci = {rows[row][1] for numbers in more.values() for row in numbers}
    assert foci == {"f4", "f5", "f6", "f7", "f8"}
    assert not np.array_equal(FocusSample(3, 4, 1).rows(_Table(rows), seed=1)[splits.TRAIN], found[splits.TRAIN])
    with pytest.raises(ValueError, match=r"has 5 foci with 5 questions or more; top_foci is 6"):
        FocusSample(6, 4, 1).rows(_Table(rows), seed=0)
    with pytest.raises(ValueError, match="dev_per_focus is 0"):
        FocusSample(1, 1, 0)


def test_damaged_rows_are_told(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "t", tokenizer)
    (shard,) = folder.shards("dev")
    content = pathlib.Path(shard).read_bytes()
    for damaged, message in ((content[:-5], "missing or damaged"), (b"", "hold 0 batches; their manifest says 1")):
        pathlib.Path(shard).write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            read_rows(folder, "dev")


def test_what_is_no_token_folder(prepared, tmp_path):
    with pytest.raises(ValueError, match="of kind and format"):
        TokenFolder(prepared.path)
    with pytest.raises(ValueError, match="There is no folder"):
        TokenFolder(str(tmp_path / "none"))


def test_the_fingerprint_follows_the_content(tokenizer, tmp_path):
    first, again = (folder_of(tmp_path / name, tokenizer).fingerprint() for name in ("a", "b"))
    other = folder_of(tmp_path / "c", tokenizer, ROWS[1:]).fingerprint()
    assert first == again != other
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert manifest["train_lengths"] == sorted(manifest["train_lengths"])
    assert batches.length_boundaries(manifest["train_lengths"], 4, 2)
