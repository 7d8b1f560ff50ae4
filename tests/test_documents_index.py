"""Indexes of passages, alone and beside pairs: what is found, cited, decided and suggested."""

import dataclasses
import pathlib
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.folders.prepared import PreparedFolder, open_prepared
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts.answer_prompts import Prompt
from data_pipeline.rows import CHOICES, PAIR, PASSAGE
from docproduct import index, sample
from docproduct.answering import Answerer, Query, terminal
from docproduct.answering.support import SupportChecker
from docproduct.contexts import ContextFinder
from docproduct.index import Hit, Index, IndexSettings, calibrating, windows
from docproduct.index.checks import check_prepared
from docproduct.index.content import Content
from docproduct.search.answerable import Signals
from tests.conftest import with_first_values, write_csv

GUIDE = """# Guide
## Treatment
the z helps against x.

## Cause
what is the y of b. the z is a.
"""
HEADINGS = ["Guide, Treatment", "Guide, Cause", "notes.txt"]
ROWS = [(f"what is {letter}{i}?", f"the {letter} {i}.") for i, letter in enumerate("abcdefghij")]


@pytest.fixture(scope="module")
def kept_sample(tmp_path_factory):
    """40 pairs of the sample, and no more than that are needed to calibrate: quick."""
    lines = pathlib.Path(sample.PAIRS_FILE).read_text(encoding="utf-8").splitlines(keepends=True)[:41]
    path = tmp_path_factory.mktemp("sample") / "pairs.csv"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "PAIRS_FILE", str(path))
        patch.setattr(calibrating.refusals, "LEAST_FITTING", 15)
        yield


@pytest.fixture(scope="module")
def guides(vocab_file, tmp_path_factory):
    """A prepared folder of two documents: one with sections, and a long one without a title."""
    folder = tmp_path_factory.mktemp("guides")
    (folder / "in").mkdir()
    (folder / "in/guide.md").write_text(GUIDE, encoding="utf-8")
    (folder / "in/notes.txt").write_text("a b c d e f g h i j k l m n o p q r s t u v w x y z", encoding="utf-8")
    settings = PrepareSettings((str(folder / "in"),), vocab_file, dev_share=0.0)
    prepare(settings, str(folder / "p"), reader=PASSAGES)
    return PreparedFolder(str(folder / "p"), PASSAGE)


@pytest.fixture(scope="module")
def pairs(vocab_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    prepare(PrepareSettings((write_csv(folder / "t.csv", ROWS),), vocab_file, dev_share=0.0), str(folder / "p"))
    return PreparedFolder(str(folder / "p"))


@pytest.fixture(scope="module")
def built(tiny_retriever, kept_sample, guides, pairs, tmp_path_factory):
    """An index of documents alone, and one beside pairs."""
    retriever = with_first_values(tiny_retriever)
    folder = tmp_path_factory.mktemp("built")
    index.build(retriever, guides, str(folder / "alone"), IndexSettings(hybrid="rrf"))
    index.build(
        retriever, [pairs, guides, guides], str(folder / "both"), IndexSettings(hybrid="weight", bm25_weight=9.0)
    )
    return folder


def by_hand(retriever, heading, text, question):
    """The best cosine of a question and the windows of a passage, each under the heading."""
    encode = retriever.tokenizer.encode_few
    (before,), (tokens,) = ([ids[1:-1] for ids in encode([each], 999)] for each in (heading, text))
    before = before[: (20 - 2) // 4]
    size = 20 - 2 - len(before)
    first, last = encode(["a"], 999)[0][0], encode(["a"], 999)[0][-1]
    shared = min(20 // 8, size // 2)
    starts = range(0, max(len(tokens) - shared, 1), size - shared)
    rows = [[first, *before, *tokens[start : start + size], last] for start in starts]
    vectors = np.concatenate([retriever._encode["answer"](np.array([row], np.int32))[1] for row in rows])
    return float((vectors @ retriever.embed_few([question], "question")[0]).max()), len(rows)


def test_a_document_is_searched_to_its_end_under_its_heading(retriever, built):
    opened = Index(str(built / "alone"), retriever)
    assert (opened.sides, opened.num_answers, opened.num_documents) == (["answer"], 3, 2)
    counts = opened.manifest["counts"]
    assert (counts["pairs"], counts["documents"], counts["document_passages"]) == (0, 2, 3)
    vector = retriever.embed_few(["what is y?"], "question")[0]
    hits = opened.search(vector, 3)
    expected = {hit.label: by_hand(retriever, hit.heading, hit.answer, "what is y?") for hit in hits}
    assert counts["passages"] == sum(windows for _, windows in expected.values()) > 3
    assert {hit.label: hit.score for hit in hits} == {
        label: pytest.approx(cosine, abs=1e-5) for label, (cosine, _) in expected.items()
    }
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert set(expected) == set(HEADINGS)
    with pytest.raises(ValueError, match="passages of documents, without questions"):
        opened.search(vector, 1, "question")


def test_a_heading_asked_word_for_word_is_always_answered(retriever, built):
    answerer = Answerer(retriever, Index(str(built / "both"), retriever), threshold=2.0)
    answer = answerer.answer(Query("guide, treatment"))
    assert (answer.answerable, answer.answer) == (True, "the z helps against x.")
    assert (answer.hits[0].title, answer.hits[0].section, answer.hits[0].source) == ("Guide", "Treatment", "guide.md")
    assert answerer.answer(Query("notes.txt")).hits[0].source == "notes.txt"
    assert not answerer.answer(Query("guide, treatment of x")).answerable
    assert set(answerer.index.questions()) == {row[0] for row in ROWS} | set(HEADINGS)


def test_pairs_and_passages_stand_in_one_ranking(retriever, built):
    opened = Index(str(built / "both"), retriever)
    assert opened.sides == ["answer", "question"]
    # What stands in two folders counts once.
    assert opened.manifest["counts"] | {"passages": 0} == {
        **{"pairs": 10, "passages": 0, "answers": 13, "documents": 2, "document_passages": 3}
    }
    vector = retriever.embed_few(["what is a?"], "question")[0]
    hits = opened.search(vector, 13)
    assert {bool(hit.question) for hit in hits} == {True, False}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    # By questions, only pairs are found, even where a heading is asked.
    found = opened.search(vector, 13, "question", "Guide, Cause")
    assert len(found) == 10
    assert all(hit.question for hit in found)
    # BM25 reads the heading of a passage.
    assert opened.search(vector, 13, "answer", "treatment")[0].section == "Treatment"


def test_rows_for_generators_take_only_the_pairs(retriever, built, pairs, guides):
    opened = Index(str(built / "both"), retriever)
    for folder in (pairs, guides):
        check_prepared(opened.manifest, folder)
    with pytest.raises(ValueError, match=f"built from other pairs than {pairs.path}"):
        check_prepared(Index(str(built / "alone"), retriever).manifest, pairs)
    rows = pairs.table(["pair_id", "question", "answer"]).to_pylist()
    vectors = retriever.embed_few([row["question"] for row in rows], "question")
    # Among the 13 hits are three passages.
    for row, hits in zip(rows, ContextFinder(opened, 9)(vectors, rows), strict=True):
        assert {hit.pair_id for hit in hits} == {other["pair_id"] for other in rows} - {row["pair_id"]}


def test_each_kind_has_its_own_calibration(retriever, built, monkeypatch):
    opened = Index(str(built / "both"), retriever)
    of_pairs, of_documents = opened._deciders[False], opened._deciders[True]
    assert not of_pairs.by_search  # ten pairs are too few for a model
    assert of_documents.by_search
    assert opened.manifest["of_documents"]["on"] == calibrating.SAMPLE
    question = "what is y?"
    vector = retriever.embed_few([question], "question")
    best = {}
    for hit in opened.search(vector[0], 13):
        best.setdefault(bool(hit.question), hit)
    asked = []
    signals = Signals.of
    monkeypatch.setattr(Signals, "of", lambda *given: asked.append(given) or signals(*given))

    def answerable():
        return opened.search_many(vector, 1, "answer", [question])[0].is_answerable()

    for pair_passes, passage_passes in ((True, False), (False, True), (False, False)):
        of_pairs.least_cosine = best[True].score + (-0.01 if pair_passes else 0.01)
        of_documents.by_search = of_documents.by_search._replace(least=-1e9 if passage_passes else 1e9)
        assert answerable() == (pair_passes or passage_passes)
    text, cosines, of_questions, nearest, _ = asked[-1]
    assert (text, nearest) == (question, (best[False].heading, best[False].answer))
    assert cosines[0] == pytest.approx(best[False].score, abs=1e-6)
    assert not any(of_questions)
    # Without a text, the cosine of each kind decides.
    of_documents.least_cosine = best[False].score + 0.01
    assert not opened.search_many(vector, 1)[0].is_answerable()
    of_documents.least_cosine -= 0.02
    assert opened.search_many(vector, 1)[0].is_answerable()


def test_documents_beside_many_pairs_are_calibrated_on_these(retriever, guides, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrating.refusals, "LEAST_FITTING", 2)
    monkeypatch.setattr(calibrating.refusals, "LEAST_QUESTIONS", 2)
    manifest = index.build(retriever, [guides, pairs], str(tmp_path / "i"))
    assert manifest["of_documents"]["on"] == calibrating.OWN_PAIRS
    model = manifest["of_documents"]["answerable"]["model"]
    assert model["features"] == ("cosine", "shared", "length")  # a passage has no question to compare with
    assert manifest["answerable"]["model"] != model
    assert manifest["threshold"] == manifest["of_documents"]["threshold"]


def test_an_index_of_pairs_is_as_before(retriever, pairs, tmp_path):
    manifest = index.build(retriever, pairs, str(tmp_path / "i"))
    assert (manifest["prepared"], "of_documents" in manifest) == (pairs.fingerprint(), False)
    assert set(manifest["counts"]) == {"pairs", "passages", "answers"}
    assert "title" not in pq.read_table(tmp_path / "i/pairs.parquet").column_names


def test_rows_are_taken_with_their_vectors():
    table = {"pair_id": [1, 2, 3], "question": ["a", "", "c"], "title": ["", "t", ""]}
    vectors = {"question": np.array([[1.0], [3.0]]), "answer": np.array([[10.0], [20.0], [21.0], [30.0]])}
    rows, numbers = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 0])
    content = Content(pa.table(table), np.array(["x", "y", "z"]), vectors, rows, numbers)
    some = content.taken(np.array([False, True, True]))
    assert some.pairs["pair_id"].to_pylist() == [2, 3]
    assert (some.split_names.tolist(), some.rows.tolist(), some.numbers.tolist()) == (["y", "z"], [0, 0, 1], [0, 1, 0])
    assert {side: each.ravel().tolist() for side, each in some.vectors.items()} == {
        **{"question": [3.0], "answer": [20.0, 21.0, 30.0]}
    }


def test_a_heading_takes_a_quarter_of_a_window(retriever):
    cut = windows.cut(["a b c d e f g h", "x"], retriever, 10, 1, ["q r s t u", ""])
    decoded = [" ".join(retriever.tokenizer.decode(ids)[1:-1]) for ids in cut.ids.to_list()]
    # 10 tokens less [CLS] and [SEP] are 8: two of the heading, six of the text, of which one is shared.
    assert decoded == ["q r a b c d e f", "q r f g h", "x"]
    assert (cut.rows.tolist(), cut.numbers.tolist()) == ([0, 0, 1], [0, 1, 0])


def test_where_a_passage_stands():
    passage = Hit(0.5, 1, "", "Honey.", "asthma.pdf", "", title="Asthma guide", section="Treatment", page="3")
    assert (passage.heading, passage.place) == ("Asthma guide, Treatment", "Asthma guide, Treatment, page 3")
    untitled = Hit(0.5, 1, "", "Honey.", "asthma.pdf", "", page="3")
    assert (untitled.heading, untitled.label) == ("asthma.pdf", "asthma.pdf, page 3")
    pair = Hit(0.5, 1, "What helps?", "Honey.", "t.csv", "")
    assert (pair.heading, pair.place, pair.label) == ("What helps?", "", "What helps?")


def test_what_a_terminal_and_a_service_say_of_a_passage(retriever, built, capsys):
    answer = Answerer(retriever, Index(str(built / "alone"), retriever)).answer(Query("Guide, Treatment", k=1))
    terminal.show([answer])
    told = capsys.readouterr().err
    assert "  from: Guide, Treatment  [guide.md]\n" in told
    assert f"(cosine {answer.hits[0].score:.3f}) Guide, Treatment  [guide.md]\n" in told
    (source,) = answer.as_json()["sources"]
    assert {name: source[name] for name in ("question", "title", "section", "page", "place")} == {
        **{"question": "", "title": "Guide", "section": "Treatment", "page": "", "place": "Guide, Treatment"}
    }


def test_a_generator_reads_a_passage_alone_and_is_checked_under_its_heading(retriever, built, monkeypatch):
    seen, checked = [], []

    def prompt(tokenizer, settings, question, contexts, *conversation):
        seen.extend(contexts)
        return Prompt([1], tuple(contexts[:1]), False)

    monkeypatch.setattr("docproduct.answering.answerer.answer_prompt", prompt)
    monkeypatch.setattr(SupportChecker, "against", lambda self, sources: checked.extend(sources))
    answerer = Answerer(retriever, Index(str(built / "alone"), retriever))
    answerer.generator = SimpleNamespace(tokenizer=None, prompt=None)
    query = Query("Guide, Treatment", k=2)
    answerer.draft(query, answerer.answer(dataclasses.replace(query, generate=False)))
    assert seen[0] == ("", "the z helps against x.")
    assert checked == [("Guide, Treatment", "the z helps against x.")]


def test_topics_that_were_meant_are_headings(retriever, built, monkeypatch):
    answerer = Answerer(retriever, Index(str(built / "alone"), retriever))
    decider = answerer.index._deciders[True]
    monkeypatch.setattr(decider, "by_search", decider.by_search._replace(least=1e9))
    monkeypatch.setattr("docproduct.index.decision._NEAR_LOG_ODDS", 1e10)
    answer = answerer.answer(Query("what is y?"))
    assert not answer.answerable
    assert {suggestion.topic for suggestion in answer.suggestions} == set(HEADINGS)
    assert all(answerer.answer(Query(suggestion.question)).answerable for suggestion in answer.suggestions)


def test_folders_of_other_rows_are_refused(tmp_path, guides, pairs):
    assert open_prepared(guides.path, (PAIR, PASSAGE)).schema is PASSAGE
    assert open_prepared(pairs.path, (PAIR, PASSAGE)).schema is PAIR
    with pytest.raises(ValueError, match="of kind 'docproduct prepared passages'; expected prepared pairs or choices"):
        open_prepared(guides.path, (PAIR, CHOICES))
    with pytest.raises(ValueError, match="There is no folder"):
        open_prepared(str(tmp_path / "missing"), (PAIR, PASSAGE))
