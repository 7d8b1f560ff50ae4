"""The corpus report beside other rows: a test file, other splits, a second corpus."""

import pytest

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.report import ReportSettings, report
from data_pipeline.report.corpus import PreparedCorpus, open_corpus, open_fitting
from data_pipeline.report.page import page
from tests.conftest import write_csv
from tests.planted import numbers_of, write_planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def held(tmp_path, planted):
    """A test file: one question and its answer word for word, one answer nearly, and two rows of its own."""
    rows = [row for batch in open_corpus([planted], PAIRS, Columns()).batches() for row in batch.rows]
    held = [
        (rows[3].question, rows[3].answer),
        ("unheard of?", f"{rows[5].answer} so"),
        ("a?", "b"),
        ("c?", rows[3].answer),
    ]
    return write_csv(tmp_path / "held.csv", held)


def test_contamination_by_a_test_file(planted, held):
    (leak,) = numbers_of(planted, test=held)["leaks"]
    found = {side: [leak[side][key] for key in ("held_out", "exact", "near")] for side in ("questions", "answers")}
    assert found == {"questions": [4, 1, 0], "answers": [3, 1, 1]}
    assert leak["pairs"] == {"held_out": 4, "exact": 1}
    assert leak["answers"]["near_examples"][0]["where"] == "held.csv line 3"
    assert (leak["answers"]["exact_rows"], leak["answers"]["near_rows"]) == (2, 1)
    assert leak["answers"]["share"] == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize("names", ["Frage,Antwort", "question,answer"])
def test_a_test_file_is_read_with_the_columns_of_the_corpus_or_its_own(tmp_path, names):
    (tmp_path / "held.csv").write_text(f"{names}\na?,b.\nc?,d.\n", encoding="utf-8")
    opened = open_fitting([str(tmp_path / "held.csv")], PAIRS, Columns(question="Frage", answer="Antwort"))
    assert [(row.question, row.answer) for batch in opened.batches() for row in batch.rows] == [
        ("a?", "b."),
        ("c?", "d."),
    ]
    other = Columns(question="no", answer="such")
    if names == "Frage,Antwort":
        with pytest.raises(ValueError, match="held.csv has no column 'no'"):
            open_fitting([str(tmp_path / "held.csv")], PAIRS, other)


@pytest.mark.parametrize("first_line", ["", "query,response\n", "question,answer\n"])
def test_the_header_line_of_a_test_file_is_no_row(tmp_path, first_line):
    """The corpus has no header line, so that --header names its columns; the test file may have one."""
    (tmp_path / "held.csv").write_text(f"{first_line}a?,b.\nc?,d.\n", encoding="utf-8")
    opened = open_fitting([str(tmp_path / "held.csv")], PAIRS, Columns(header=("question", "answer")))
    assert [row.question for batch in opened.batches() for row in batch.rows] == ["a?", "c?"]


def test_leaks_between_splits(planted, held, vocab_file, tmp_path):
    folder = str(tmp_path / "prepared")
    prepare(PrepareSettings((planted,), vocab_file, test_inputs=(held,), dev_share=0.0), folder)
    corpus = PreparedCorpus(folder, PAIRS.schema)
    numbers = report(corpus, ReportSettings())["corpora"][0]
    (leak,) = numbers["leaks"]
    assert leak["split"] == "test"
    # Preparing keeps the question of the test file out of train, and its answer with it; the near answer stays.
    assert [leak[side][key] for side in ("questions", "answers") for key in ("exact", "near")] == [0, 0, 0, 1]
    assert numbers["counts"]["splits"]["test"] == 4
    assert numbers["refusals"]["rows"] == sum(entry["rows"] for entry in corpus._folder.manifest["refused"].values())
    assert open_corpus([folder], PAIRS, Columns()).name == "prepared"


def test_comparison(planted, tmp_path):
    other = write_csv(tmp_path / "other.csv", [("Is tea good?", "It is."), ("Is it?", "No, never"), ("Why?", "So.")])
    both = report(
        *(open_corpus([planted], PAIRS, Columns()), ReportSettings()), other=open_corpus([other], PAIRS, Columns())
    )
    assert [corpus["counts"]["rows"] for corpus in both["corpora"]] == [101, 3]
    assert both["shared"] == {"questions": 1, "answers": 1}
    html = page(both)
    assert 'class="bar1"' in html
    assert "In both corpora: 1 of the questions, 1 of the answers." in html
