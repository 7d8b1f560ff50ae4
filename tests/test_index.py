import builtins
import importlib
import pathlib
import re
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.answering import DISCLAIMER, Answerer, Query
from docproduct.index import Index, IndexSettings, build, windows
from docproduct.search import faiss_engine, kinds
from docproduct.search.fusion import Hybrid
from docproduct.systems.retriever.folder import Embeddings, TrainedRetriever
from tests.conftest import write_csv
from tests.test_bert import randomize


@pytest.fixture
def trained(retriever):
    randomize(retriever.model)
    return retriever


@pytest.fixture
def folder(trained, prepared, tmp_path):
    build(trained, prepared, str(tmp_path / "index"), encoder_name="models/first")
    return str(tmp_path / "index")


def brute_force(trained, prepared, query, side, k):
    """Answer groups of the k nearest, straight from the definition."""
    rows = prepared.table(["question", "answer", "answer_group"]).to_pylist()
    vectors = trained.embed([row[side] for row in rows], side).head
    order = np.argsort(-(vectors @ trained.embed([query], "question").head[0]), kind="stable")
    return list(dict.fromkeys(rows[i]["answer_group"] for i in order))[:k]


@pytest.mark.parametrize("side", ["answer", "question"])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_search_equals_brute_force(trained, prepared, folder, side, k):
    opened = Index(folder, trained)
    assert opened.num_answers == 60  # of 61 pairs, two have one answer
    group = {row["pair_id"]: row["answer_group"] for row in prepared.table(["pair_id", "answer_group"]).to_pylist()}
    for query in ("what is a3?", "the xy z", "what helps against x"):
        hits = opened.search(trained.embed([query], "question").head[0], k, side)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert [group[hit.pair_id] for hit in hits] == brute_force(trained, prepared, query, side, k)


def test_a_hit_is_the_best_passage_of_an_answer(trained, prepared, tmp_path):
    settings = IndexSettings(passage_tokens=6, passage_overlap=1, export_embeddings=True)
    counts = build(trained, prepared, str(tmp_path / "index"), settings)["counts"]
    table = pq.read_table(tmp_path / "index/passages.parquet").to_pylist()
    assert counts["passages"] == len(table) > counts["pairs"] == 61
    assert len({row["passage_id"] for row in table}) == len(table)
    vectors = np.load(tmp_path / "index/answer_head.npy", mmap_mode="r")
    query = trained.embed(["what is a3?"], "question").head[0]
    best = {}
    for row, score in zip(table, vectors @ query, strict=True):
        best[row["pair_id"]] = max(score, best.get(row["pair_id"], -1))
    hits = Index(str(tmp_path / "index"), trained).search(query, 60)
    assert len(hits) == 60
    for hit in hits:
        assert hit.score == pytest.approx(best[hit.pair_id], abs=1e-5)


def test_passages_overlap_and_cover_the_answer(trained):
    text = "a b c d e f g h"
    passages, rows, numbers = windows.cut([text, "a"], trained, 5, 1)
    tokens = [trained.tokenizer.decode(ids) for ids in passages.to_list()]
    # Windows of 3 tokens; each begins with the last token of the window before.
    assert [" ".join(row[1:-1]) for row in tokens] == ["a b c", "c d e", "e f g", "g h", "a"]
    assert all(row[0] == "[CLS]" and row[-1] == "[SEP]" for row in tokens)
    assert (rows.tolist(), numbers.tolist()) == ([0, 0, 0, 0, 1], [0, 1, 2, 3, 0])
    with pytest.raises(ValueError, match="expected at most 20 tokens"):
        windows.cut([text], trained, 21, 1)


def test_exported_embeddings_equal_the_encoders(trained, prepared, tmp_path):
    build(trained, prepared, str(tmp_path / "index"), IndexSettings(export_embeddings=True))
    pairs = pq.read_table(tmp_path / "index/pairs.parquet").to_pylist()
    for side in ("question", "answer"):
        expected = trained.embed([row[side] for row in pairs], side)
        for name in ("encoder", "head"):
            stored = np.load(tmp_path / f"index/{side}_{name}.npy", mmap_mode="r")
            np.testing.assert_allclose(stored, getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("factory", ["HNSW8", "SQ8"])
def test_other_factories(trained, prepared, tmp_path, factory):
    build(trained, prepared, str(tmp_path / "index"), IndexSettings(factory=factory))
    hits = Index(str(tmp_path / "index"), trained).search(trained.embed(["what is a3?"], "question").head[0], 3)
    assert len({hit.pair_id for hit in hits}) == 3


@pytest.mark.parametrize("factory", ["HNSW32", "IVF4,Flat"])
def test_approximate_search_finds_a_vector_by_itself(retriever, vocab_file, tmp_path, monkeypatch, factory):
    rows = [(f"what is {i}?", f"the {i}.") for i in range(300)]
    prepare(PrepareSettings((write_csv(tmp_path / "p.csv", rows),), vocab_file), str(tmp_path / "p"))
    prepared = PreparedFolder(str(tmp_path / "p"))
    vectors = np.random.default_rng(0).normal(size=(2, 300, 16)).astype(np.float32)
    questions, answers = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    stored = {"question": Embeddings(questions, questions), "answer": Embeddings(answers, answers)}
    monkeypatch.setattr(retriever, "embed_prepared", lambda _, side, **__: stored[side])
    # Questions in other words, which calibrate.
    monkeypatch.setattr(retriever, "embed", lambda texts, _: Embeddings(*[np.resize(questions, (len(texts), 16))] * 2))
    build(retriever, prepared, str(tmp_path / "index"), IndexSettings(factory=factory))
    opened = Index(str(tmp_path / "index"), retriever)
    pair_ids = prepared.table(["pair_id"])["pair_id"].to_pylist()
    # The product of a unit vector is 1 with itself and less with any other.
    for side, stored in (("question", questions), ("answer", answers)):
        best = [opened.search(vector, 1, side)[0] for vector in stored]
        assert [hit.pair_id for hit in best] == pair_ids
        assert [hit.score for hit in best] == pytest.approx([1.0] * 300, abs=1e-5)


def test_the_kind_is_chosen_stored_and_its_files_are_checked(trained, prepared, tmp_path, monkeypatch, folder):
    exact = Index(folder, trained)
    assert exact.manifest["kinds"]["answer"] == {"factory": "Flat", "search_parameters": ""}  # by default
    monkeypatch.setattr(kinds, "_FLAT_BELOW", 50)
    index_dir = tmp_path / "second"
    manifest = build(trained, prepared, str(index_dir), IndexSettings(hybrid="none"))
    chosen = manifest["kinds"]["answer"]
    assert (manifest["settings"]["factory"], chosen["factory"]) == ("auto", "IVF1,RaBitQfs,RFlat")
    monkeypatch.setattr(kinds, "_FLAT_BELOW", 50_000)
    opened = Index(str(index_dir), trained)
    np.testing.assert_array_equal(opened.vectors("answer"), exact.vectors("answer"))
    for conditions in ([], [f"source={exact.sources()[0]}"]):
        query = trained.embed(["what is a3?"], "question").head[0]
        scores = [[hit.score for hit in index.search(query, 30, conditions=conditions)] for index in (opened, exact)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    vectors = index_dir / "answers.vectors.npy"
    content = bytearray(vectors.read_bytes())
    content[-7] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(ValueError, match=r"answers\.vectors\.npy is missing or damaged.*Build it with"):
        Index(str(index_dir), trained)
    vectors.unlink()
    with pytest.raises(ValueError, match=r"answers\.vectors\.npy is missing or damaged.*Build it with"):
        Index(str(index_dir), trained)


def test_unknown_factories_are_refused_and_leave_no_folder(trained, prepared, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="FAISS cannot build 'IVF4096,Flat' over 61 vectors"):
        build(trained, prepared, str(tmp_path / "index"), IndexSettings(factory="IVF4096,Flat"))
    monkeypatch.setattr(trained, "embed_prepared", None)  # these errors are raised before any text is encoded
    for settings, message in (
        ({"factory": "Nonsense"}, "FAISS cannot build 'Nonsense' "),
        ({"factory": "Flat", "search_parameters": "probes=3"}, "FAISS cannot build 'Flat, probes=3' "),
        ({"search_parameters": "nprobe=3"}, "search_parameters=nprobe=3 needs the --factory"),
        ({"dims": 11}, "dims is 11; expected 1 to 10"),
    ):
        with pytest.raises(ValueError, match=message):
            build(trained, prepared, str(tmp_path / "index"), IndexSettings(**settings))
    assert not (tmp_path / "index").exists()


def test_an_index_of_another_encoder_is_refused_by_name(trained, folder):
    trained.model.question_head.inner[0].bias.assign_add(np.full(10, 0.1))
    with pytest.raises(ValueError, match="built with the encoder 'models/first'.*build the index again"):
        Index(folder, trained)


def test_invalid_searches_are_refused(trained, folder, tmp_path):
    opened = Index(folder, trained)
    query = trained.embed(["a"], "question").head[0]
    for k in (0, 61):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 to 60"):
            opened.search(query, k)
    with pytest.raises(ValueError, match="search_by is 'source'; expected answer or question"):
        opened.search(query, 1, "source")
    with pytest.raises(ValueError, match=r"no manifest.json: expected a finished folder of docproduct index"):
        Index(str(tmp_path), trained)


def test_searching_on_a_gpu_needs_its_package(trained, folder):
    if hasattr(faiss_engine.faiss, "StandardGpuResources"):
        pytest.skip("faiss-gpu is installed")
    with pytest.raises(ValueError, match="Install the extra gpu, or use cpu"):
        Index(folder, trained, device="gpu")
    assert Index(folder, trained, device="auto").num_answers == 60


def test_a_missing_faiss_names_the_extras(monkeypatch):
    real = builtins.__import__

    def without_faiss(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    monkeypatch.delitem(sys.modules, "docproduct.search.faiss_engine")
    with pytest.raises(ImportError, match="extra cpu or gpu"):
        importlib.import_module("docproduct.search.faiss_engine")


def test_the_path_of_one_question(trained, folder):
    answerer = Answerer(trained, Index(folder, trained))
    answer = answerer.answer(Query("what is a3?", k=3))
    assert answer.answer == answer.hits[0].answer
    shown = answer.as_json()
    checked = ["sentences", "support", "supported", "num_left_out"]
    written = ["generated", *checked, "finished", "question_shortened", "answerable", "suggestions"]
    assert list(shown) == ["question", "corrected", "answer", *written, "sources", "seconds", "emergency", "disclaimer"]
    assert shown["disclaimer"] == DISCLAIMER
    assert "not medical advice" in DISCLAIMER
    of_hit = ["question", "answer", "source", "focus", "title", "section", "page", "place", "columns"]
    assert [list(source) for source in shown["sources"]] == [["id", "score", "rerank_score", "in_prompt", *of_hit]] * 3
    for blank in ("", " \t\n", "\u200b\ufeff"):
        with pytest.raises(ValueError, match="The question is empty"):
            answerer.answer(Query(blank))


def test_where_a_folder_is_needed_an_address_is_refused():
    with pytest.raises(ValueError, match=r"milvus://me:\*\*\*@host/x is the address of a store. Give the index"):
        Index.open_vectors("milvus://me:secret@host/x")


def test_a_damaged_index_is_named(trained, folder):
    path = pathlib.Path(folder, "answers.faiss")
    content = bytearray(path.read_bytes())
    content[-9] ^= 64  # inside a vector: FAISS itself would not notice
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"answers.faiss is missing or damaged \(its bytes"):
        Index(folder, trained)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"answers.faiss is missing or damaged.*python -m docproduct.index"):
        Index(folder, trained)
    path.unlink()
    with pytest.raises(ValueError, match=r"answers.faiss is missing or damaged"):
        Index(folder, trained)


def test_search_parameters_are_stored(trained, prepared, tmp_path):
    # 61 answers in 8 lists: one list alone cannot hold 60 answers, all eight do.
    query = trained.embed(["what is a3?"], "question").head[0]
    for nprobe, complete in ((1, False), (8, True)):
        settings = IndexSettings("IVF8,Flat", f"nprobe={nprobe}")
        build(trained, prepared, str(tmp_path / "index"), settings, overwrite=True)
        hits = Index(str(tmp_path / "index"), trained).search(query, 60)
        assert 1 <= len(hits) <= 60
        assert (len(hits) == 60) == complete
    with pytest.raises(ValueError, match=r"cannot build 'Flat, nprobe=8' .*parameters that it has"):
        build(trained, prepared, str(tmp_path / "other"), IndexSettings("Flat", "nprobe=8"))


def test_an_index_that_finds_nothing_says_so(trained, folder, monkeypatch):
    opened = Index(folder, trained)
    monkeypatch.setattr(opened._sides["answer"], "_ranked", lambda *_: [])
    with pytest.raises(ValueError, match="found nothing.*--search_parameters"):
        opened.search(trained.embed(["a"], "question").head[0], 3)


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
@pytest.mark.parametrize("search_by", ["answer", "question"])
def test_bm25_changes_the_order_but_not_the_scores(trained, prepared, tmp_path, factory, search_by):
    """BM25 with a large weight decides the order; the scores of the hits are still cosines."""
    folder = str(tmp_path / "i")
    settings = {"factory": factory, "search_parameters": "nprobe=4" if "IVF" in factory else ""}
    build(trained, prepared, folder, IndexSettings(hybrid="weight", bm25_weight=9.0, **settings))
    opened = Index(folder, trained)
    vector = trained.embed(["z z z"], "question").head[0]
    pairs = prepared.table(["question", "answer"]).to_pylist()
    cosines = {
        row["pair_id"]: float(trained.embed([row[search_by]], search_by).head[0] @ vector)
        for row in prepared.table(["pair_id", search_by]).to_pylist()
    }
    # BM25 sees no words of one letter; the numbers from 10 up are words.
    known = [row for row in pairs if re.search(r"\d\d\.", row["answer"]) and re.search(r"\d\d", row["question"])]
    for target in known[:5]:
        hits = opened.search(vector, 3, search_by, target[search_by])
        assert target[search_by] in [getattr(hit, search_by) for hit in hits]
        assert len({hit.answer for hit in hits}) == 3
        for hit in hits:
            assert hit.score == pytest.approx(cosines[hit.pair_id], abs=1e-5)
    # Without the text of the question the vector alone decides, as in an index without BM25.
    build(trained, prepared, str(tmp_path / "plain"), IndexSettings(**settings))
    plain = Index(str(tmp_path / "plain"), trained)
    assert opened.search(vector, 5, search_by) == plain.search(vector, 5, search_by, "z z z")


def test_bm25_finds_answers_beyond_the_nearest_vectors(trained, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("docproduct.index.open._HYBRID_DEPTH", 2)
    build(trained, prepared, str(tmp_path / "i"), IndexSettings(hybrid="rrf"))
    opened = Index(str(tmp_path / "i"), trained)
    vector = trained.embed(["z z z"], "question").head[0]
    last = opened.search(vector, opened.num_answers)[-1]
    hits = opened.search(vector, 1, "answer", last.answer)
    assert len(hits) == 1
    answers = opened._sides["answer"]
    joined = answers.fused(last.answer, vector, answers.nearest(vector[None], 2)[0], 2, Hybrid("rrf"))
    scores = [hit.score for hit in opened._hits(joined) if hit.answer == last.answer]
    assert scores == [pytest.approx(last.score, abs=1e-5)]


def test_hybrid_defaults_to_the_models_choice(trained, prepared, tmp_path):
    model = TrainedRetriever(trained.model, trained.tokenizer, Hybrid("weight", 0.3))
    settings = build(model, prepared, str(tmp_path / "i"))["settings"]
    assert (settings["hybrid"], settings["bm25_weight"]) == ("weight", 0.3)
    assert build(trained, prepared, str(tmp_path / "j"))["settings"]["hybrid"] == "none"
    assert build(model, prepared, str(tmp_path / "k"), IndexSettings(hybrid="none"))["settings"]["hybrid"] == "none"


def test_shortened_vectors_are_compared_by_their_cosine(trained, prepared, tmp_path):
    build(trained, prepared, str(tmp_path / "i"), IndexSettings(dims=4))
    vector = trained.embed(["z z z"], "question").head[0]
    hit = Index(str(tmp_path / "i"), trained).search(vector, 1)[0]
    other = trained.embed([hit.answer], "answer").head[0]
    cosine = vector[:4] @ other[:4] / np.linalg.norm(vector[:4]) / np.linalg.norm(other[:4])
    assert hit.score == pytest.approx(float(cosine), abs=1e-5)
    with pytest.raises(ValueError, match="dims is 11; expected 1 to 10"):
        build(trained, prepared, str(tmp_path / "j"), IndexSettings(dims=11))
    with pytest.raises(ValueError, match="hybrid is 'words'; expected auto, none, rrf, weight"):
        IndexSettings(hybrid="words")
