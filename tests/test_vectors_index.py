"""Indexes of vectors that were made elsewhere: docproduct 0.2.0's Parquet files, or any columns."""

import json
import pathlib
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpora import Columns
from docproduct.answering import Answerer, Folders, Query
from docproduct.index import Index, IndexSettings, VectorTable, build_from_vectors, vector_columns
from docproduct.systems.retriever import TrainedRetriever
from tests.commands import run
from tests.conftest import write_csv
from tests.test_bert import randomize

TEXTS = {"question": ["What is a?", "what is b", "c &amp; d?"], "answer": ["the a", "the b", "the  c"]}
# Not of unit norm: as unit vectors [0.6, 0.8], [0, 1], [1, 0], and [1, 0], [0, 1], [0.8, -0.6].
QUESTIONS = [[3.0, 4.0], [0.0, 2.0], [0.5, 0.0]]
ANSWERS = [[2.0, 0.0], [0.0, 0.1], [4.0, -3.0]]


def write(path, **columns):
    pq.write_table(pa.table(TEXTS | columns), path)
    return str(path)


def opened(path, folder, *names, **settings):
    build_from_vectors(VectorTable(str(path), *names), str(folder), IndexSettings(**settings))
    return Index.open_vectors(str(folder))


def check(index):
    """Checks the hits that follow from the vectors above."""
    # By answer: cosines of [0.8, 0.6], which is asked as [8, 6], with [1, 0], [0, 1], [0.8, -0.6].
    hits = index.search(np.array([8.0, 6.0]), 3)
    assert [(hit.answer, round(hit.score, 3)) for hit in hits] == [("the a", 0.8), ("the b", 0.6), ("the c", 0.28)]
    # By question: with [0.6, 0.8], [0, 1], [1, 0].
    hits = index.search(np.array([8.0, 6.0], np.float16), 3, "question")
    assert [(hit.question, round(hit.score, 3)) for hit in hits] == [
        ("What is a?", 0.96),
        ("c & d?", 0.8),
        ("what is b", 0.6),
    ]
    assert index.search([0, 5], 1)[0].answer == "the b"


def as_text(rows):
    return [str(np.array(row)).replace(" ", "\n ", 1) for row in rows]  # as pandas wrote NumPy's lines


@pytest.mark.parametrize(
    "column",
    [
        lambda rows: pa.array(rows, pa.list_(pa.float32())),
        lambda rows: pa.array(rows, pa.large_list(pa.float64())),
        lambda rows: pa.array([list(map(np.float16, row)) for row in rows], pa.list_(pa.float16())),
        lambda rows: pa.array(rows, pa.list_(pa.float32(), 2)),
        lambda rows: pa.array(as_text(rows)),
        lambda rows: pa.array([str(row) for row in rows]),  # [0.1, 0.2]
    ],
)
def test_files_of_0_2_0_are_read(tmp_path, column):
    # 0.2.0 gave its Parquet files the ending .zip.
    path = write(tmp_path / "bertffn_crossentropy.zip", Q_FFNN_embeds=column(QUESTIONS), A_FFNN_embeds=column(ANSWERS))
    index = opened(path, tmp_path / "i")
    check(index)
    hit = index.search([1, 0], 1)[0]
    assert (hit.source, hit.focus) == ("bertffn_crossentropy.zip", "")
    assert index.manifest["counts"] == {"pairs": 3, "passages": 3, "answers": 3}


def test_tables_are_read_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("docproduct.index.vector_columns._BATCH_ROWS", 2)
    check(opened(write(tmp_path / "t.parquet", q=QUESTIONS, a=as_text(ANSWERS)), tmp_path / "i", "q", "a"))
    np.save(tmp_path / "q.npy", np.array(QUESTIONS))
    check(opened(tmp_path / "t.parquet", tmp_path / "j", str(tmp_path / "q.npy"), "a"))


def test_any_two_columns_and_text_columns_by_name(tmp_path):
    table = pa.table({"Frage": TEXTS["question"], "Antwort": TEXTS["answer"], "q": QUESTIONS, "a": ANSWERS})
    pq.write_table(table, tmp_path / "t.parquet")
    vectors = VectorTable(str(tmp_path / "t.parquet"), "q", "a", Columns(question="Frage", answer="Antwort"))
    build_from_vectors(vectors, str(tmp_path / "i"))
    check(Index.open_vectors(str(tmp_path / "i")))


@pytest.mark.parametrize(
    ("instructions", "questions"),
    [
        (["Add.", "Double.", "Halve."], ["Add.\nWhat is a?", "Double.\nwhat is b", "Halve.\nc & d?"]),
        (["Add."] * 3, ["What is a?", "what is b", "c & d?"]),  # the same in every row: left out
    ],
)
def test_an_instruction_table(tmp_path, instructions, questions):
    table = {"instruction": instructions, "input": TEXTS["question"], "output": TEXTS["answer"], "q": QUESTIONS}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert opened(tmp_path / "t.parquet", tmp_path / "i", "q").questions() == questions


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_numpy_files_beside_a_table(tmp_path, kind):
    np.save(tmp_path / "q.npy", np.array(QUESTIONS, np.float16))
    np.save(tmp_path / "a.npy", np.array(ANSWERS))
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        write_csv(path, list(zip(TEXTS["question"], TEXTS["answer"], strict=True)))
    else:
        write(path)
    check(opened(path, tmp_path / "i", str(tmp_path / "q.npy"), str(tmp_path / "a.npy")))
    np.save(tmp_path / "a.npy", np.array(ANSWERS[:2]))
    with pytest.raises(ValueError, match=r"a.npy holds 2 vectors, .* 3 rows; expected one each"):
        opened(path, tmp_path / "j", str(tmp_path / "q.npy"), str(tmp_path / "a.npy"))
    for wrong in (np.zeros(3), np.array([["a"]]), np.array([None], object)):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(ValueError, match=r"a.npy (holds|cannot be read).*[Ee]xpected"):
            opened(path, tmp_path / "j", str(tmp_path / "q.npy"), str(tmp_path / "a.npy"))


def test_rows_that_cannot_be_searched_are_counted(tmp_path, caplog):
    good, nan, inf = [1.0, 2.0], float("nan"), float("inf")
    rows = [  # question, answer, their vectors, why it is refused
        ("a", "a", good, good, ""),
        (None, "b", good, good, "empty question"),
        ("NULL", "b", good, good, "question is the word NULL"),
        ("c", " \u200b", good, good, "empty answer"),
        ("d", "d", None, good, "no vector in q"),
        ("e", "e", good, [], "no vector in v"),
        ("f", "f", [1.0, 2.0, 3.0], good, "the vector in q has another length than most"),
        ("g", "g", [nan, 1.0], good, "NaN or infinity in q"),
        ("h", "h", good, [None, 1.0], "NaN or infinity in v"),
        ("i", "i", good, [inf, 1.0], "NaN or infinity in v"),
        ("j", "j", good, [1e300, 1.0], "NaN or infinity in v"),  # more than float32 holds
        ("k", "k", [0.0, -0.0], good, "only zeros in q"),
        ("a ", "a", good, good, "duplicate"),
        ("l", "l", [1e-30, 0.0], good, ""),  # small is not zero
    ]
    names = ("question", "answer", "q", "v")
    pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), tmp_path / "t.parquet")
    index = opened(tmp_path / "t.parquet", tmp_path / "i", "q", "v")
    expected = {}
    for number, (*_, reason) in enumerate(rows):
        if reason:
            entry = expected.setdefault(reason, {"rows": 0, "first": f"{tmp_path}/t.parquet row {number + 1}"})
            entry["rows"] += 1
    refused = index.manifest["vectors"]["refused"]
    assert {reason: {"rows": at["rows"], "first": at["first"]} for reason, at in refused.items()} == expected
    assert "3 rows are left out: NaN or infinity in v (first: " in caplog.text
    assert index.questions() == ["a", "l"]
    assert index.search([1e-30, 0], 1, "question")[0].question == "l"
    # Texts that hold no numbers, or only some of them.
    texts = ["[1 2]", "[0.1 0.2 ... 0.9]", "abc", "[]", None]
    table = {"question": list("abcde"), "answer": list("abcde"), "q": texts}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    index = opened(tmp_path / "t.parquet", tmp_path / "j", "q")
    refused = {reason: at["rows"] for reason, at in index.manifest["vectors"]["refused"].items()}
    assert refused == {"the vector in q cannot be read": 2, "no vector in q": 2}


@pytest.mark.parametrize(("side", "other"), [("question", "answer"), ("answer", "question")])
def test_one_side_is_enough(tmp_path, caplog, side, other):
    path = write(tmp_path / "t.parquet", v=QUESTIONS)
    names = {"question": ("v", ""), "answer": ("", "v")}[side]
    index = opened(path, tmp_path / "i", *names)
    assert [hit.question for hit in index.search([0.6, 0.8], 3, side)] == ["What is a?", "what is b", "c & d?"]
    with pytest.raises(ValueError, match=f"search_by is '{other}'; expected {side}, which this index has"):
        index.search([0.6, 0.8], 3, other)
    assert "vectors of one side only" in caplog.text
    assert index.manifest["threshold"]["questions"] == 0
    result = index.search_many(np.array([[0.0, -1.0]]), 1, side)[0]
    assert result.is_answerable(index.threshold)


def test_stored_questions_and_bm25_work_as_in_any_index(tmp_path):
    texts = {"question": ["alpha?", "beta?", "gamma & delta?"], "answer": ["one alpha", "two beta", "three gamma"]}
    path = write(tmp_path / "t.parquet", **texts, Q_FFNN_embeds=QUESTIONS, A_FFNN_embeds=ANSWERS)
    index = opened(path, tmp_path / "i", hybrid="weight", bm25_weight=9.0)
    # The first answer is nearest. With words, BM25 decides; a stored question is recognized in any case.
    assert index.search([1, 0], 1)[0].answer == "one alpha"
    assert index.search([1, 0], 1, query="is it beta")[0].answer == "two beta"
    assert index.search([1, 0], 1, query="GAMMA & DELTA")[0].answer == "three gamma"
    assert index.search_many(np.array([[1.0, 0.0]]), 1, "answer", ["GAMMA & DELTA"])[0].stored
    # Leave-one-out, by hand. With its answers, the best cosines are 0.8 ([0.6, 0.8] and [0, 1]), 1 and 1. There is no
    # ceil(4 * 0.95) = 4th of three: the lowest is taken.
    threshold = index.manifest["threshold"]
    assert threshold["cosine"] == pytest.approx(0.8)
    assert (threshold["questions"], threshold["of"], threshold["guaranteed"]) == (3, "all", 0.75)


def test_invalid_queries_are_refused(trained, tmp_path):
    path = write(tmp_path / "t.parquet", Q_FFNN_embeds=QUESTIONS, A_FFNN_embeds=ANSWERS)
    index = opened(path, tmp_path / "i")
    for query, message in (
        ("what is a?", "Expected vectors of numbers; received <U10. A text needs the encoder that made the index"),
        ([1.0, 2.0, 3.0], r"has shape \(3,\); expected \(2,\)"),
        ([0.0, 0.0], "no direction"),
        ([float("nan"), 0.0], "no direction"),
    ):
        with pytest.raises(ValueError, match=message):
            index.search(query, 1)
    with pytest.raises(ValueError, match="k is 4; expected 1 to 3"):
        index.search([1, 0], 4)
    with pytest.raises(ValueError, match="holds precomputed vectors without an encoder.*Index.open_vectors"):
        Index(str(tmp_path / "i"), trained)


@pytest.fixture
def trained(retriever):
    randomize(retriever.model)
    return retriever


def test_the_encoder_of_the_vectors_can_be_added(trained, tmp_path):
    texts = {side: [text.replace("&amp;", "&").replace("  ", " ") for text in TEXTS[side]] for side in TEXTS}
    columns = {
        name: list((trained.embed(texts[side], side).head * 3).astype(np.float16))
        for side, name in (("question", "Q_FFNN_embeds"), ("answer", "A_FFNN_embeds"))
    }
    path, model = write(tmp_path / "t.parquet", **columns), tmp_path / "model"
    model.mkdir()
    trained.save_config(str(model), {})
    trained.save_weights(str(model))
    retriever = TrainedRetriever.load(str(model))
    manifest = build_from_vectors(VectorTable(path), str(tmp_path / "i"), retriever=retriever, encoder_name="mine")
    assert (manifest["encoder"]["name"], manifest["encoder"]["fingerprint"]) == ("mine", trained.fingerprint())
    answerer = Answerer.load(Folders(str(model), str(tmp_path / "i")))
    answer = answerer.answer(Query("what is b?", 1))
    assert (answer.answerable, answer.answer) == (True, "the b")
    assert answerer.retriever.embed(["a"], "question").head.shape == (1, 10)
    # Vectors of another encoder, with another width and with the same width.
    with pytest.raises(ValueError, match="have 2 components, those of --model_dir 10"):
        path = write(tmp_path / "o.parquet", Q_FFNN_embeds=QUESTIONS, A_FFNN_embeds=ANSWERS)
        build_from_vectors(VectorTable(path), str(tmp_path / "j"), retriever=retriever)
    other = {name: list(np.random.default_rng(0).normal(size=(3, 10))) for name in ("Q_FFNN_embeds", "A_FFNN_embeds")}
    with pytest.raises(ValueError, match="were not made by --model_dir: of 3 texts the median cosine"):
        build_from_vectors(
            VectorTable(write(tmp_path / "o.parquet", **other)), str(tmp_path / "j"), retriever=retriever
        )
    assert not (tmp_path / "j").exists()


def test_unusable_files_are_refused(tmp_path):
    path = write(tmp_path / "t.parquet", q=QUESTIONS, a=[[1.0]] * 3, n=[1, 2, 3], bad=["x"] * 3)
    csv, pickled = write_csv(tmp_path / "t.csv", [("a", "b")]), tmp_path / "t.pkl"
    pickled.write_bytes(b"\x80\x04rest")
    for file, names, message in (
        (path, (), "has neither Q_FFNN_embeds nor A_FFNN_embeds. Columns found: question, answer, q, a, n, bad. Name"),
        (path, ("vectors",), "has no column 'vectors'. Columns found"),
        (path, ("n",), "Column 'n' of .* holds int64; expected lists of numbers"),
        (path, ("q", "a"), "questions' vectors have 2 components, the answers' 1"),
        (path, ("bad",), "bad holds no vector that can be read in 3 rows"),
        (csv, (), "is no Parquet file"),
        (csv, ("q",), "is no Parquet file"),
        (str(pickled), (), "looks like a pickle.*to_parquet"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(file, tmp_path / "i", *names)
    with pytest.raises(FileNotFoundError, match="No file at .*none.parquet"):
        opened(tmp_path / "none.parquet", tmp_path / "i")
    with pytest.raises(ValueError, match="--passage_tokens and --export_embeddings need an encoder"):
        opened(path, tmp_path / "i", "q", passage_tokens=8)
    with pytest.raises(ValueError, match=r"Refused: .*empty question"):
        empty = {"question": [None], "answer": ["a"], "q": [[1.0]]}
        pq.write_table(pa.table(empty), tmp_path / "e.parquet")
        opened(tmp_path / "e.parquet", tmp_path / "i", "q")
    assert not (tmp_path / "i").exists()


def test_the_command(tmp_path):
    path = write(tmp_path / "t.parquet", Q_FFNN_embeds=QUESTIONS, A_FFNN_embeds=ANSWERS)
    arguments = (f"--vectors={path}", "--question_vectors=Q_FFNN_embeds", "--answer_vectors=A_FFNN_embeds")
    done = run("docproduct.index", *arguments, f"--index_dir={tmp_path}/i")
    printed = json.loads(done.stdout)
    assert (printed["pairs"], printed["threshold"]["questions"]) == (3, 3)
    check(Index.open_vectors(str(tmp_path / "i")))
    for wrong in ((f"--vectors={path}", "--prepared_dir=p"), (), ("--prepared_dir=p",)):
        done = run("docproduct.index", *wrong, f"--index_dir={tmp_path}/j")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "--prepared_dir" in done.stderr
    assert not pathlib.Path(tmp_path / "j").exists()


def test_vectors_of_a_numpy_file_are_not_held_beside_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_columns, "_BATCH_ROWS", 256)  # small beside the file
    vectors = np.random.default_rng(0).normal(size=(40_000, 16)).astype(np.float32)
    np.save(tmp_path / "a.npy", vectors)
    tracemalloc.start()
    try:
        units, reasons = vector_columns.unit_vectors("", str(tmp_path / "a.npy"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(units, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rtol=1e-6)
    assert not reasons.any()
    assert peak < 1.5 * vectors.nbytes
