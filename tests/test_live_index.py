"""A live index: after any changes, it answers as a new index of the same pairs does."""

import os
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline import cleaning
from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import PASSAGE
from docproduct.index import Index, IndexSettings, build, compaction
from docproduct.index.live import LiveFolder, NewPair, pair_id_of
from docproduct.search.changes import NotStoredError
from docproduct.search.shared_words import WordWeights
from tests.kill_live import Encoder, texts_of, write_index

WORDS = ["asthma", "cough", "fever", "inhaler", "lung", "sleep", "tablet", "water", "rest", "nurse"]
QUERIES = ("what helps against asthma?", "cough fever", "how is a lung treated", "water")


def texts(draw):
    """Returns a question and an answer; now and then, the answer of another pair."""
    # The encoder reads 20 letters: what tells texts apart stands first.
    question = f"{draw.randrange(10**4)} {' '.join(draw.choices(WORDS, k=3))}?"
    number = draw.randrange(60)
    answer = f"{number} {' '.join(random.Random(number).choices(WORDS, k=2 + number % 7))}."
    return {"question": question, "answer": answer, "source": draw.choice("ab"), "focus": draw.choice(WORDS)}


@pytest.fixture(scope="module")
def first_pairs():
    draw = random.Random(1)
    return [texts(draw) for _ in range(40)]


def prepared_folder(pairs, vocab_file, folder):
    columns = ("question", "answer", "source", "focus")
    folder.mkdir()
    with open(folder / "p.csv", "w", encoding="utf-8") as file:
        file.write(",".join(columns) + "\n" + "".join(",".join(pair[c] for c in columns) + "\n" for pair in pairs))
    prepare(PrepareSettings((str(folder / "p.csv"),), vocab_file, dev_share=0.2), str(folder / "p"))
    return PreparedFolder(str(folder / "p"))


@pytest.fixture
def index_dir(retriever, first_pairs, vocab_file, tmp_path, request):
    settings = IndexSettings(**getattr(request, "param", {}))
    path = str(tmp_path / "index")
    build(retriever, prepared_folder(first_pairs, vocab_file, tmp_path / "first"), path, settings)
    return path


def found(index, retriever, k, conditions=()):
    """Returns what searches of all kinds find: answers and whether the question is stored, and the cosines."""
    queries, seen, cosines = [*QUERIES, *sorted(index.questions())[::7]], [], []
    vectors = retriever.embed_few(queries, "question")
    for side in ("answer", "question"):
        for result in index.search_many(vectors, k, side, queries, conditions):
            seen.append(([hit.answer.casefold() for hit in result.hits], result.stored, result.num_own))
            cosines += [result.cosine, *(hit.score for hit in result.hits)]
    return seen, cosines


def check_same(index, other, retriever, *asked):
    """Checks that two indexes find the same."""
    (seen, cosines), (expected, expected_cosines) = (found(each, retriever, *asked) for each in (index, other))
    assert seen == expected
    np.testing.assert_allclose(cosines, expected_cosines, atol=1e-5)


@pytest.mark.parametrize(
    "index_dir",
    [{}, {"hybrid": "rrf"}, {"hybrid": "weight", "passage_tokens": 9, "passage_overlap": 2}, {"factory": "HNSW16"}],
    indirect=True,
    ids=["Flat", "rrf", "passages", "HNSW"],
)
def test_changes_equal_a_new_index_of_the_same_pairs(retriever, first_pairs, index_dir, vocab_file, tmp_path):
    draw, live = random.Random(2), LiveFolder(index_dir, retriever, compact_changes=0)
    present = {cleaning.pair_id(pair["question"], pair["answer"]): pair for pair in first_pairs}
    for step in range(18):
        pair_id = draw.choice(sorted(present))
        if step % 3 == 0:
            assert live.remove(pair_id)
            assert not live.remove(pair_id)
            del present[pair_id]
            continue
        pair = texts(draw)
        if step % 3 == 1:
            pair_id = cleaning.pair_id(pair["question"], pair["answer"])
        status = "replaced" if pair_id in present else "added"
        new = NewPair(pair_id, live.cleaned(pair))
        assert live.put([new]) == [status]
        assert live.put([new]) == ["unchanged"]
        present[pair_id] = pair
        if step == 8:
            live.compact()
    settings = live.index.settings
    prepared = prepared_folder(list(present.values()), vocab_file, tmp_path / "second")
    build(retriever, prepared, str(tmp_path / "new"), settings)
    new = Index(str(tmp_path / "new"), retriever)

    def check(index):
        assert index.num_answers == new.num_answers
        assert sorted(index.questions()) == sorted(new.questions())
        for k in (1, 7):
            check_same(index, new, retriever, k)
        if settings.factory == "Flat":  # HNSW with a selector is approximate
            for conditions in (["source=a"], ["source=a", "focus=lung", "focus=cough"], ["focus>=s"]):
                check_same(index, new, retriever, 5, conditions)

    check(live.index)
    live.close()
    live = LiveFolder(index_dir, retriever, compact_changes=0)
    check(live.index)
    assert live.num_changes > 0
    live.compact()
    check(live.index)
    assert live.num_changes == 0
    live.close()
    check(Index(index_dir, retriever))  # the folder itself holds all
    check(LiveFolder(index_dir, retriever).index)


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


def test_words_of_added_pairs_are_known_and_those_of_removed_ones_are_not(retriever, index_dir):
    opened = Index(index_dir, retriever, live=True)
    opened._words = WordWeights.build([])
    pair = {"question": "what is croup?", "answer": "croup is a cough.", "source": "", "focus": ""}
    vector = retriever.embed_few(["a"], "question")
    for pair_id in (1, 2):
        opened.put(pair_id, pair, {"question": vector, "answer": vector})
    assert opened._words.counts["croup"] == 2
    opened.drop(1)
    opened.drop(2)
    assert not opened._words.counts


def test_kept_columns_are_searched_and_survive(retriever, vocab_file, tmp_path):
    pairs = [
        {"question": f"q {i}?", "answer": f"a {i}.", "url": f"https://{'ab'[i % 2]}.example/{i}"} for i in range(9)
    ]
    with open(tmp_path / "p.csv", "w", encoding="utf-8") as file:
        file.write("question,answer,url\n" + "".join(",".join(pair.values()) + "\n" for pair in pairs))
    prepare(PrepareSettings((str(tmp_path / "p.csv"),), vocab_file), str(tmp_path / "p"))
    path = str(tmp_path / "i")
    with pytest.raises(ValueError, match="no column 'place' to keep; expected url"):
        build(retriever, PreparedFolder(str(tmp_path / "p")), path, IndexSettings(keep=("place",)))
    build(retriever, PreparedFolder(str(tmp_path / "p")), path, IndexSettings(keep=("url",)))
    live = LiveFolder(path, retriever, compact_changes=0)
    live.put([NewPair(5, live.cleaned({"question": "new?", "answer": "new.", "url": "https://b.example/new"}))])
    vector = retriever.embed_few(["q 3"], "question")[0]
    for _ in range(2):
        hits = live.index.search(vector, 9, conditions=["url>=https://b", "url<=https://c"])
        assert sorted(hit.columns["url"] for hit in hits) == [f"https://b.example/{i}" for i in (1, 3, 5, 7, "new")]
        live.compact()
    live.close()


def test_ids():
    assert pair_id_of("-9223372036854775808") == -(2**63)
    assert pair_id_of("0") == 0
    names = ["-1", "-0", "007", "9223372036854775808", "+1", "a/b", "", "1 "]
    assert len({pair_id_of(name) for name in names} - {-1, 0, 1, 7}) == len(names)


@pytest.mark.parametrize("factory", ["Flat", "SQ8"])
def test_pairs_are_changed_beside_documents(retriever, first_pairs, vocab_file, tmp_path, factory):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/guide.md").write_text("# Guide\n## Rest\nsleep helps.\n\n## Water\ndrink it.\n", encoding="utf-8")
    prepare(PrepareSettings((str(tmp_path / "in"),), vocab_file), str(tmp_path / "guide"), reader=PASSAGES)
    guide = PreparedFolder(str(tmp_path / "guide"), PASSAGE)
    pairs = prepared_folder(first_pairs[:9], vocab_file, tmp_path / "pairs")
    path = str(tmp_path / "i")
    build(retriever, [pairs, guide], path, IndexSettings(factory=factory, hybrid="rrf"))
    live = LiveFolder(path, retriever, compact_changes=0)
    rest = next(row for row in range(len(live.index.pairs)) if live.index.pairs.headings[row] == "Guide, Rest")
    assert live.remove(live.index.pairs[rest]["pair_id"])
    live.put([NewPair(5, live.cleaned({"question": "new?", "answer": "sleep well."}))])
    vectors = retriever.embed_few(["guide, rest", "new", "guide, water"], "question")
    seen = []
    for _ in range(2):
        results = live.index.search_many(vectors, 3, "answer", ["guide, rest", "new", "guide, water"])
        assert [result.stored for result in results] == [False, True, True]
        assert [result.hits[0].label for result in results[1:]] == ["new?", "Guide, Water"]
        seen.append([[(hit.label, round(hit.score, 2)) for hit in result.hits] for result in results])
        live.compact()
    assert seen[0] == seen[1]
    assert live.index.manifest["counts"]["document_passages"] == 1
    live.close()
