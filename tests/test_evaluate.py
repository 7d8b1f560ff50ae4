import dataclasses
import json
import math
import types

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import beir
from docproduct import evaluate
from docproduct.evaluate import EvaluationSettings, ranking
from docproduct.search.fusion import Hybrid
from docproduct.systems.retriever import TrainedRetriever
from tests.commands import run
from tests.test_bert import randomize
from tests.test_checkpoints import google_tensors, write_hugging_face


def write(folder, corpus, queries, qrels, split="test"):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    (folder / f"qrels/{split}.tsv").write_text("\n".join(lines) + "\n")
    return str(folder)


CORPUS = {"d1": "alpha", "d2": "beta", "d3": "gamma", "d4": "Beta."}  # d2 and d4 are one text in normal form
QUERIES = {"q1": "one", "q2": "two", "q3": "not judged"}
QRELS = [("q1", "d3", 1), ("q1", "d4", 2), ("q2", "d1", 3), ("q2", "d3", 0)]
SCORES = {"one": [0.9, 0.5, 0.1], "two": [0.2, 0.8, 0.4]}  # of d1, d2, d3


@pytest.fixture
def no_model(monkeypatch):
    model = types.SimpleNamespace(hybrid=Hybrid())
    monkeypatch.setattr(ranking.TrainedRetriever, "load_for_many", lambda *_, **__: model)


@pytest.fixture
def data(tmp_path, monkeypatch, no_model):
    def scores(retriever, queries, documents, *_):
        assert documents == ["alpha", "beta", "gamma"]
        return [np.array(SCORES[query]) for query in queries]

    monkeypatch.setattr(ranking, "_encoder_scores", scores)
    return beir.read(write(tmp_path / "beir", CORPUS, QUERIES, QRELS), "test")


def test_metrics_by_hand(data, tmp_path):
    metrics = evaluate.retrieval("model", data, run_file=str(tmp_path / "run"))
    # q1: d1, d2 (grade 2, from d4), d3 (grade 1). q2: d2, d3, d1 (grade 3).
    assert metrics["RR@10"] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-4)
    assert (metrics["Success@1"], metrics["Success@5"], metrics["R@100"]) == (0, 1, 1)
    assert metrics["AP@10"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 3) / 2, abs=1e-4)
    gain_1 = (2 / math.log2(3) + 1 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    gain_2 = (3 / math.log2(4)) / (3 / math.log2(2))
    assert metrics["nDCG@10"] == pytest.approx((gain_1 + gain_2) / 2, abs=1e-4)
    assert (metrics["queries"], metrics["documents"], metrics["queries_without_relevant"]) == (2, 3, 0)
    lines = (tmp_path / "run").read_text().splitlines()
    assert [line.split()[:4] for line in lines[:3]] == [
        ["q1", "Q0", "d1", "1"],
        ["q1", "Q0", "d2", "2"],
        ["q1", "Q0", "d3", "3"],
    ]


def test_judged_candidates(data):
    metrics = evaluate.retrieval("model", data, EvaluationSettings("judged"))
    # q1: d2, d3, both relevant. q2: d3, d1.
    assert metrics["RR@10"] == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("relevant", ["d1", "d3"])
def test_equal_scores_earn_nothing(tmp_path, monkeypatch, no_model, relevant):
    corpus = {f"d{i}": f"text {i}" for i in range(1, 5)}
    folder = write(tmp_path / "beir", corpus, {"q1": "?"}, [("q1", relevant, 1)])
    monkeypatch.setattr(ranking, "_encoder_scores", lambda *_: iter([np.array([0.5, 0.9, 0.5, 0.5])]))
    run_file = tmp_path / "run"
    metrics = evaluate.retrieval("model", beir.read(folder, "test"), run_file=str(run_file))
    # d2 is first; the three with 0.5 share ranks 2 to 4, and the relevant one gets the last.
    assert (metrics["Success@1"], metrics["RR@10"], metrics["Success@5"]) == (0, 0.25, 1)
    assert run_file.read_text().splitlines()[0] == "q1 Q0 d2 1 0.900000 docproduct"
    assert run_file.read_text().splitlines()[3] == f"q1 Q0 {relevant} 4 0.500000 docproduct"


def test_scores_that_are_no_numbers_are_refused(data, monkeypatch):
    monkeypatch.setattr(ranking, "_encoder_scores", lambda *_: iter([np.full(3, np.nan)] * 2))
    with pytest.raises(ValueError, match="model scores query 'q1' with NaN"):
        evaluate.retrieval("model", data)


def test_a_run_file_without_a_folder_is_refused_before_the_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "_encoder_scores", None)
    with pytest.raises(FileNotFoundError, match="no folder for .*Make it first"):
        evaluate.retrieval("model", data, run_file=str(tmp_path / "none/run"))


def test_invalid_options_are_refused(data):
    with pytest.raises(ValueError, match="BM25 alone has no vectors"):
        evaluate.retrieval("bm25", data, EvaluationSettings(hybrid="rrf"))
    with pytest.raises(ValueError, match="max_text_tokens is 9, passage_tokens is 8: BM25 alone"):
        evaluate.retrieval("bm25", data, EvaluationSettings(max_text_tokens=9, passage_tokens=8))
    with pytest.raises(ValueError, match="bm25_weight is nan"):
        EvaluationSettings(hybrid="weight", bm25_weight=math.nan)
    with pytest.raises(ValueError, match="hybrid is 'both'"):
        EvaluationSettings(hybrid="both")
    with pytest.raises(ValueError, match="candidates is 'some'; expected all or judged"):
        EvaluationSettings(candidates="some")


def test_relevance_is_the_lowest_grade_that_counts(data):
    metrics = evaluate.retrieval("model", data, EvaluationSettings(relevance=2))
    assert metrics["AP@10"] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-4)  # d3 is no longer relevant to q1
    metrics = evaluate.retrieval("model", data, EvaluationSettings(relevance=3))
    assert metrics["RR@10"] == pytest.approx((0 + 1 / 3) / 2, abs=1e-4)
    assert metrics["queries_without_relevant"] == 1


def brute_force(model, data):
    """Success@1 and RR@10 straight from the definition; one document of each query is relevant."""
    retriever, ranks = TrainedRetriever.load(model), []
    documents = retriever.embed(list(data.corpus.values()), "answer").head
    for query, text in data.queries.items():
        scores = dict(zip(data.corpus, documents @ retriever.embed([text], "question").head[0], strict=True))
        (relevant,) = data.qrels[query]
        ranks.append(sum(score >= scores[relevant] for score in scores.values()))
    return {"Success@1": np.mean(np.equal(ranks, 1)), "RR@10": np.mean([1 / rank * (rank <= 10) for rank in ranks])}


@pytest.mark.parametrize("kind", ["trained", "bare"])
def test_an_encoder_is_ranked_by_cosine(tmp_path, retriever, kind):
    model = tmp_path / kind
    if kind == "bare":
        write_hugging_face(model, google_tensors())
    else:
        model.mkdir()
        randomize(retriever.model)
        retriever.save_config(str(model), {})
        retriever.save_weights(str(model))
    texts = ["".join(letters) for letters in np.random.default_rng(0).choice(list("abcde 123"), (14, 9))]
    corpus = {f"d{i}": text for i, text in enumerate(texts)}
    # An even query is the text of its relevant document, an odd one the text of the document before it.
    queries = {f"q{i}": texts[i - i % 2] for i in range(14)}
    folder = write(tmp_path / "beir", corpus, queries, [(f"q{i}", f"d{i}", 1) for i in range(14)])
    data = beir.read(folder, "test")
    metrics, expected = evaluate.retrieval(str(model), data), brute_force(str(model), data)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    if kind == "bare":  # heads are the identity: equal texts have cosine 1 and come first
        assert metrics["Success@1"] == 0.5


def test_the_nearest_passage_of_a_document_counts(tmp_path, retriever):
    randomize(retriever.model)
    retriever.save_config(str(tmp_path), {})
    retriever.save_weights(str(tmp_path))
    texts = [" ".join(letters) for letters in np.random.default_rng(0).choice(list("abcde123"), (12, 14))]
    # A query is the last letters of its document.
    folder = write(
        tmp_path / "beir",
        {f"d{i}": text for i, text in enumerate(texts)},
        {f"q{i}": text[-7:] for i, text in enumerate(texts)},
        [(f"q{i}", f"d{i}", 1) for i in range(12)],
    )
    settings = EvaluationSettings(passage_tokens=8, passage_overlap=2, max_text_tokens=9)
    model, cut = TrainedRetriever.load(str(tmp_path)), []
    for first, *tokens, last in model.tokenizer.encode(texts, 99).to_list():
        cut += [[first, *tokens[start : start + 6], last] for start in (0, 4, 8)]  # all 14 tokens, twice two of them
    vectors = model.embed_ids(tf.ragged.constant(cut, tf.int32), "answer").head.reshape(12, 3, -1)
    queries = model.embed([text[-7:] for text in texts], "question").head
    cosines = np.einsum("dpw,qw->qdp", vectors, queries).max(axis=2)  # [Q, D]
    evaluate.retrieval(str(tmp_path), beir.read(folder, "test"), settings, str(tmp_path / "run"))
    for query, _, document, _, score, _ in map(str.split, (tmp_path / "run").read_text().splitlines()):
        assert float(score) == pytest.approx(cosines[int(query[1:]), int(document[1:])], abs=2e-6)
    with pytest.raises(ValueError, match="passage_tokens is 10 and passage_overlap 2; expected at most 9 tokens"):
        evaluate.retrieval(str(tmp_path), beir.read(folder, "test"), dataclasses.replace(settings, passage_tokens=10))


def test_bm25_ranks_by_shared_words(tmp_path):
    corpus = {"d1": "a cough syrup", "d2": "fever and chills", "d3": "broken leg"}
    queries = {"q1": "What helps against fever?", "q2": "leg", "q3": "the"}  # q3 is nothing but a stop word
    qrels = [("q1", "d2", 1), ("q2", "d3", 1), ("q3", "d1", 1)]
    data = beir.read(write(tmp_path / "beir", corpus, queries, qrels), "test")
    assert evaluate.retrieval("bm25", data)["Success@1"] >= 2 / 3 - 1e-4


def test_a_prepared_split_is_written_as_beir(prepared, tmp_path):
    counts = beir.write(prepared, "dev", str(tmp_path / "beir"))
    data = beir.read(str(tmp_path / "beir"), "dev")
    rows = prepared.table(["question_group", "answer_group", "split"]).to_pylist()
    assert counts == {
        "corpus": len({row["answer_group"] for row in rows}),
        "queries": len({row["question_group"] for row in rows if row["split"] == "dev"}),
        "judgments": sum(row["split"] == "dev" for row in rows),
    }
    assert (len(data.corpus), len(data.queries)) == (counts["corpus"], counts["queries"])
    with pytest.raises(ValueError, match="has no test pairs"):
        beir.write(prepared, "test", str(tmp_path / "other"))


def test_judgments_of_unknown_documents_are_counted(tmp_path):
    data = beir.read(write(tmp_path / "beir", CORPUS, QUERIES, [*QRELS, ("q1", "d9", 1)]), "test")
    assert data.missing == 1


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ([("q9", "d1", 1)], r"test.tsv line 2 is \['q9', 'd1', '1'\]; expected"),
        ([("q1", "d1", "high")], "line 2 is"),
        ([("q1", "d1")], "line 2 is"),
        ([], "judges no document"),
    ],
)
def test_invalid_judgments_are_refused(tmp_path, qrels, message):
    with pytest.raises(ValueError, match=message):
        beir.read(write(tmp_path / "beir", CORPUS, QUERIES, qrels), "test")


def test_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file at .*corpus.jsonl"):
        beir.read(str(tmp_path), "test")
    folder = write(tmp_path / "beir", CORPUS, QUERIES, QRELS)
    with pytest.raises(FileNotFoundError, match=r"No file at .*dev.tsv"):
        beir.read(folder, "dev")
    (tmp_path / "beir/corpus.jsonl").write_text('{"_id": "d1"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl line 1 cannot be read"):
        beir.read(folder, "test")


def test_the_script_ends_with_one_line_of_json(tmp_path):
    folder = write(tmp_path / "beir", CORPUS, QUERIES, QRELS)
    done = run("docproduct.evaluate", "retrieval", "--model_dir=bm25", f"--beir_dir={folder}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert {"Success@1", "Success@5", "Success@10", "R@100", "RR@10", "nDCG@10", "AP@10"} <= set(metrics)


def test_hybrid_is_tuned(data, monkeypatch):
    """Of the settings tried, the one with the highest RR@10 is chosen."""
    perfect = [np.array([1.0 if i == j else 0.0 for j in range(3)]) for i in range(len(data.queries))]
    monkeypatch.setattr(ranking, "_bm25_scores", lambda *_: perfect)
    tuned = evaluate.retrieval("m", data, EvaluationSettings(hybrid="tune"))
    assert {"none", "rrf", "weight 0.1"} < set(tuned["tried"])
    assert tuned["RR@10"] == max(tuned["tried"].values())
    plain = evaluate.retrieval("m", data)
    assert tuned["tried"]["none"] == plain["RR@10"]
    assert tuned["vectors_alone"] == {name: plain[name] for name in plain if "@" in name}
    settings = EvaluationSettings(hybrid=tuned["hybrid"], bm25_weight=tuned["bm25_weight"])
    again = evaluate.retrieval("m", data, settings)
    assert again == {name: tuned[name] for name in again}
    # The model's own choice is the default.
    chosen = Hybrid(tuned["hybrid"], tuned["bm25_weight"])
    monkeypatch.setattr(
        ranking.TrainedRetriever, "load_for_many", lambda *_, **__: types.SimpleNamespace(hybrid=chosen)
    )
    assert evaluate.retrieval("m", data) == again
