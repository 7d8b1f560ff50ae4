"""A live index: after any changes, it answers as a new index of the same pairs does."""

import random

import numpy as np
import pytest

from data_pipeline import cleaning
from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import PASSAGE
from docproduct.index import Index, IndexSettings, build
from docproduct.index.content import OTHER_NAMES
from docproduct.index.live import LiveFolder, NewPair, pair_id_of
from docproduct.search import kinds
from docproduct.search.shared_words import WordWeights

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
    [
        {},
        {"hybrid": "rrf"},
        {"hybrid": "weight", "passage_tokens": 9, "passage_overlap": 2},
        {"factory": "HNSW16"},
        {"factory": "SQ4,RFlat", "search_parameters": "k_factor_rf=99"},
    ],
    indirect=True,
    ids=["auto", "rrf", "passages", "HNSW", "rescored"],
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
        if settings.factory != "HNSW16":  # HNSW with a selector is approximate
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


def test_a_folder_that_grows_gets_another_kind_and_keeps_its_hidden_column(
    retriever, vocab_file, tmp_path, monkeypatch
):
    rows = "".join(f"what is {word}?,{word} is {n} {word}.,{word},other {n}\n" for n, word in enumerate(WORDS))
    (tmp_path / "p.csv").write_text(f"question,answer,focus,synonyms\n{rows}", encoding="utf-8")
    prepare(PrepareSettings((str(tmp_path / "p.csv"),), vocab_file), str(tmp_path / "p"))
    build(retriever, PreparedFolder(str(tmp_path / "p")), str(tmp_path / "i"), IndexSettings(hybrid="none"))
    live = LiveFolder(str(tmp_path / "i"), retriever, "cpu", compact_changes=0)
    assert OTHER_NAMES not in live.index.pairs.columns
    with pytest.raises(ValueError, match="keeps no column 'other_names'"):
        live.cleaned({"question": "q?", "answer": "a", OTHER_NAMES: "b"})
    names = sorted(live.index.pairs.column(OTHER_NAMES).to_pylist())
    assert names == [f"other {n}" for n in range(10)]
    live.put([NewPair(7, live.cleaned({"question": "what is new?", "answer": "a new answer"}))])
    monkeypatch.setattr(kinds, "_FLAT_BELOW", 11)
    live.compact()
    assert {kind["factory"] for kind in live.index.manifest["kinds"].values()} == {"IVF1,RaBitQfs,RFlat"}
    assert sorted(live.index.pairs.column(OTHER_NAMES).to_pylist(), key=str) == [None, *names]
    vector = retriever.embed_few(["what is new?"], "question")[0]
    hit = live.index.search(vector, 1, query="what is new?")[0]
    assert (hit.pair_id, hit.score) == (7, pytest.approx(retriever.embed(["a new answer"], "answer").head[0] @ vector))
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
