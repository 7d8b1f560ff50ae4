"""Reports that compare systems: the bootstrap, the scores, the tables, and what is refused."""

import json
import pathlib
import resource
import sys
import types

import numpy as np
import pytest

from data_pipeline import beir
from docproduct import evaluate
from docproduct.evaluate import library, ranking, report, systems
from docproduct.evaluate.bootstrap import BootstrapSettings, intervals
from docproduct.evaluate.ranking import EvaluationSettings
from docproduct.evaluate.record import Record, peak_mib
from docproduct.evaluate.systems import Evaluated, evaluate_alone, systems_of
from docproduct.evaluate.table import markdown
from tests.test_evaluate import CORPUS, QRELS, QUERIES, write

FEW = BootstrapSettings(resamples=1_000)


def evaluated(**per_query):
    """Returns what an evaluation gives whose queries have these values of each metric."""
    queries = len(next(iter(per_query.values())))
    record = Record({metric: dict(enumerate(values)) for metric, values in per_query.items()}, 2.0, 0.5)
    results = {"queries": queries, "documents": 10, "queries_without_relevant": 0}
    return Evaluated(results, record, 100.0, None)


def test_an_interval_equals_all_samples_of_a_tiny_case():
    # Of the values 0 and 1, the four equally likely samples have the means 0, 1/2, 1/2, 1. With 40 % in the interval,
    # both bounds are 1/2; with 80 %, they are 0 and 1.
    values = np.array([[0.0, 1.0]])
    assert intervals(values, BootstrapSettings(confidence=0.4)).tolist() == [[0.5, 0.5]]
    assert intervals(values, BootstrapSettings(confidence=0.8)).tolist() == [[0.0, 1.0]]


def test_an_interval_is_that_of_the_normal_distribution_for_many_queries():
    values = np.random.default_rng(3).normal(2.0, 1.5, (1, 900))
    (low, high) = intervals(values, BootstrapSettings(resamples=4_000))[0]
    mean, error = values.mean(), values.std() / 30  # the square root of 900
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.15 * error)


def test_all_rows_are_resampled_with_the_same_queries():
    values = np.random.default_rng(4).random(37)
    bounds = intervals(np.stack([values, 2 * values, values - values]), FEW)
    assert bounds[1] == pytest.approx(2 * bounds[0])
    assert bounds[2].tolist() == [0, 0]
    assert bounds[0][0] < values.mean() < bounds[0][1]
    np.testing.assert_array_equal(bounds, intervals(np.stack([values, 2 * values, values - values]), FEW))


def test_a_constant_gain_differs_although_the_systems_overlap():
    rng = np.random.default_rng(5)
    first = rng.random(50)
    of = {"a": evaluated(RR=first), "b": evaluated(RR=first + 0.01), "c": evaluated(RR=rng.permutation(first))}
    scores = report.scores(of, "a", ("RR",), FEW)
    gain = scores["b"]["RR"]
    assert gain["difference"] == pytest.approx(0.01)
    assert (gain["difference_low"], gain["difference_high"]) == pytest.approx((0.01, 0.01))
    assert gain["differs"]
    assert gain["low"] < scores["a"]["RR"]["mean"]  # unpaired, the gain would drown in the spread of the queries
    itself = scores["a"]["RR"]
    assert [itself[key] for key in ("difference", "difference_low", "difference_high")] == [0, 0, 0]
    assert not itself["differs"]
    assert not scores["c"]["RR"]["differs"]  # the same values, for other queries


@pytest.fixture
def data(tmp_path):
    return beir.read(write(tmp_path / "beir", CORPUS, QUERIES, QRELS), "test")


def test_each_querys_values_average_to_the_means(data):
    record = Record()
    results = evaluate.retrieval("bm25", data, EvaluationSettings(relevance=2), record=record)
    assert set(record.per_query) == {name for name in results if "@" in name}
    for name, values in record.per_query.items():
        assert list(values) == list(data.qrels)
        assert results[name] == pytest.approx(np.mean(list(values.values())), abs=1e-4)
    assert record.document_seconds > 0
    assert record.query_seconds > 0


def test_only_the_pass_that_counts_is_recorded(data, monkeypatch):
    """Ways that tuning tries, and the pass without BM25, leave no trace in the record."""
    model = types.SimpleNamespace(hybrid=ranking.Hybrid("rrf"))
    monkeypatch.setattr(ranking.TrainedRetriever, "load_for_many", lambda *_, **__: model)
    # By the vectors, d1 comes first for both queries: RR 1/2 and 1. With BM25, d3 does for the first: 1 and 1.
    for name, first in (("_encoder_scores", [0, 0]), ("_bm25_scores", [2, 0])):
        rows = list(np.eye(3)[first])
        monkeypatch.setattr(ranking, name, lambda *_, rows=rows: rows)
    record = Record()
    results = evaluate.retrieval("model", data, EvaluationSettings(hybrid="weight", bm25_weight=5.0), record=record)
    assert record.per_query["RR@10"] == {"q1": 1, "q2": 1}
    assert results["vectors_alone"]["RR@10"] == 0.75


def test_a_report_of_two_systems(tmp_path, monkeypatch):
    folder = write(tmp_path / "beir", CORPUS, QUERIES, QRELS)
    monkeypatch.setattr(report, "evaluate_alone", lambda name, *arguments: systems.evaluate(*arguments))
    metrics = ("RR@10", "R@100")
    result = report.compare(
        {"words|1": "bm25", "again": "bm25"}, folder, "test", report=report.ReportSettings(metrics), bootstrap=FEW
    )
    assert json.loads(json.dumps(result)) == result
    assert (result["queries"], result["documents"], result["against"]) == (2, 3, "words|1")
    first, second = result["systems"]
    assert list(first["metrics"]) == list(metrics)
    assert first["metrics"] == second["metrics"]  # no difference from itself, and none between equal systems
    means = evaluate.retrieval("bm25", beir.read(folder, "test"))
    assert first["metrics"]["RR@10"]["mean"] == pytest.approx(means["RR@10"], abs=1e-4)
    assert min(first[cost] for cost in ("documents_per_s", "queries_per_s", "peak_mib")) > 0
    tables = [block.splitlines() for block in markdown(result).split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [4, 3, 4]  # head, line, systems: two, one without the first, two
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_a_star_stands_where_the_interval_excludes_0():
    of = {"a": evaluated(RR=np.zeros(9)), "b": evaluated(RR=np.full(9, 0.25))}
    described = [
        {"name": name, "metrics": scores, "hybrid": "weight", "bm25_weight": 0.1, "dtype_policy": "float32"}
        | {"documents_per_s": 1234.5, "queries_per_s": 6.7, "peak_mib": 890.1}
        for name, scores in report.scores(of, "a", ("RR",), FEW).items()
    ]
    about = {"queries": 9, "documents": 3, "split": "dev", "beir_dir": "b", "against": "a", "systems": described}
    about |= {"bootstrap": {"confidence": 0.95, "resamples": 1_000, "seed": 0}}
    lines = markdown(about | {"hardware": {"processor": "P", "cores": 2}}).splitlines()
    assert "| a | 0.000 [0.000, 0.000] |" in lines
    assert r"| b | 0.250\* [0.250, 0.250] |" in lines
    assert r"| b | +0.250\* [+0.250, +0.250] |" in lines
    assert "| b | weight 0.1 | float32 | 1,234 | 7 | 890 |" in lines


def test_systems_have_names(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    entries = ["bm25", f"ours={tmp_path}", f"library=st:{tmp_path}"]
    assert systems_of(entries) == {"bm25": "bm25", "ours": str(tmp_path), "library": f"st:{tmp_path}"}
    assert systems_of([f"both={tmp_path}+{tmp_path}"]) == {"both": f"{tmp_path}+{tmp_path}"}
    with pytest.raises(ValueError, match=r"Expected bm25, .*RETRIEVER\+RERANKER"):
        systems_of([f"both={tmp_path}+nowhere"])


def test_a_system_names_its_reranker(tmp_path, monkeypatch):
    folder, asked = write(tmp_path / "beir", CORPUS, QUERIES, QRELS), []

    def retrieval(source, data, settings, record):
        asked.append((source, settings.reranker_dir))
        return {}

    monkeypatch.setattr(systems, "retrieval", retrieval)
    for source in ("model+reranker", "model", "bm25"):
        systems.evaluate(source, folder, "test", EvaluationSettings(), None)
    assert asked == [("model", "reranker"), ("model", None), ("bm25", None)]
    with pytest.raises(ValueError, match="reranker_dir is for one retriever"):
        systems.evaluate("model", folder, "test", EvaluationSettings(reranker_dir="reranker"), None)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no systems.*NAME=SYSTEM"),
        (["bm25", "bm25"], "'bm25' twice"),
        (["=bm25"], "it is empty"),
        (["ours=nowhere"], "no system 'nowhere'. Expected bm25, the folder"),
        (["st:nowhere"], "no system 'st:nowhere'"),
    ],
)
def test_wrong_systems_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        systems_of(entries)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="metrics is 'MRR'; expected some of Success@1, "):
        report.ReportSettings(metrics=("MRR",))
    with pytest.raises(ValueError, match="metrics is ''"):
        report.ReportSettings(metrics=())
    with pytest.raises(ValueError, match="against is 'x'; expected one of the systems: a"):
        report.compare({"a": "bm25"}, "b", "test", report=report.ReportSettings(against="x"))
    with pytest.raises(ValueError, match="needs --peer_python"):
        report.compare({"a": "st:x"}, "b", "test")
    with pytest.raises(ValueError, match="no queries"):
        intervals(np.zeros((2, 0)))


def test_the_library_scores_with_its_own_vectors(data, tmp_path, monkeypatch):
    """A script in the place of sentence-transformers writes vectors; what it costs is what it says."""
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, numpy\n"
        "texts = json.load(open(sys.argv[2] + '/texts.json'))\n"
        "assert texts == {'documents': ['alpha', 'beta', 'gamma'], 'queries': ['one', 'two']}\n"
        "numpy.save(sys.argv[2] + '/documents.npy', numpy.eye(3))\n"
        "numpy.save(sys.argv[2] + '/queries.npy', numpy.eye(3)[[2, 0]])\n"
        "print(json.dumps({'documents_seconds': 3, 'queries_seconds': 4, 'peak_mib': 5}))\n"
    )
    monkeypatch.setattr(library, "_SCRIPT", str(script))
    record = Record()
    results, peak = library.retrieval("m", data, EvaluationSettings(), record, sys.executable)
    assert results["Success@1"] == 1  # d3 for q1, d1 for q2
    assert (record.document_seconds, peak) == (3, 5)
    assert record.query_seconds > 4
    script.write_text("raise SystemExit(3)")
    with pytest.raises(ValueError, match="could not encode with m: .* exit status 3"):
        library.retrieval("m", data, EvaluationSettings(), record, sys.executable)


def test_peak_memory_is_at_least_what_is_held_now():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    assert pages * resource.getpagesize() / 2**20 <= peak_mib() < 100_000


@pytest.mark.slow
def test_a_system_is_evaluated_in_a_process_of_its_own(tmp_path):
    folder = write(tmp_path / "beir", CORPUS, QUERIES, QRELS)
    alone = evaluate_alone("words", "bm25", folder, "test", EvaluationSettings(), None)
    assert alone.results == evaluate.retrieval("bm25", beir.read(folder, "test"))


@pytest.mark.long
def test_an_error_in_a_process_of_its_own_names_the_system(tmp_path):
    folder = write(tmp_path / "beir", CORPUS, QUERIES, QRELS)
    with pytest.raises(ValueError, match="words cannot be evaluated: No file at .*dev.tsv"):
        evaluate_alone("words", "bm25", folder, "dev", EvaluationSettings(), None)
