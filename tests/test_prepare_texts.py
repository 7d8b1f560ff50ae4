"""How preparing treats HTML and null words."""

import collections
import json
import pathlib
import subprocess
import sys

import pytest

from data_pipeline import cleaning
from data_pipeline.folders import manifest as manifests
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, chunks, html_columns, prepare
from data_pipeline.schemas import Field
from tests.conftest import write_csv

HTML = [(f"What is x{i}?", f"<p>It is<br>{i}.</p><ul><li>a</li></ul>") for i in range(3)]
PLAIN = [("q5?", "a <5 mg dose of <unknown>"), ("q6?", "AT&amp;T")]


def pairs_of(path, vocab_file, rows, **settings):
    table = write_csv(path / "p.csv", rows)
    manifest = prepare(PrepareSettings((table,), vocab_file, dev_share=0, **settings), str(path / "out"))
    texts = PreparedFolder(str(path / "out")).table(["question", "answer"]).to_pydict()
    return dict(zip(texts["question"], texts["answer"], strict=True)), manifest


def test_a_column_that_is_mostly_html_is_turned_into_text(tmp_path, vocab_file):
    answers, manifest = pairs_of(tmp_path, vocab_file, [*HTML, *PLAIN])
    assert answers == {f"What is x{i}?": f"It is\n{i}.\n- a" for i in range(3)} | {
        "q5?": "a <5 mg dose of <unknown>", "q6?": "AT&T",
    }  # fmt: skip
    assert manifest["changed"] == {"answers turned from HTML into text": 3}
    assert [entry["html"] for entry in manifest["inputs"]] == [{"answer": "tags"}]


@pytest.mark.parametrize(
    ("mode", "rows"),
    [("keep", [*HTML, *PLAIN]), ("auto", [*HTML, *PLAIN, ("q7?", "a")]), ("auto", [*HTML[:1], PLAIN[0]])],
)
def test_html_that_is_kept_is_counted(tmp_path, vocab_file, mode, rows):
    answers, manifest = pairs_of(tmp_path, vocab_file, rows, html=mode)
    num_html = sum(answer.startswith("<p>") for _, answer in rows)
    assert manifest["changed"] == {"answers with HTML tags, kept": num_html}
    assert sum(answer.startswith("<p>") for answer in answers.values()) == num_html
    assert manifest["inputs"][0]["html"] == {}


def test_html_is_always_turned_into_text_by_flag(tmp_path, vocab_file):
    rows = [*PLAIN, ("<b>q7</b>?", "a <i>b</i>"), ("q8?", "Type &lt;br&gt; for <question>")]
    answers, manifest = pairs_of(tmp_path, vocab_file, rows, html="text")
    assert answers["q7?"] == "a b"
    assert answers["q8?"] == "Type <br> for <question>"
    assert answers["q5?"] == PLAIN[0][1]
    assert manifest["changed"] == {"questions turned from HTML into text": 1, "answers turned from HTML into text": 1}


def test_html_is_decided_for_each_column_of_each_file(tmp_path, vocab_file):
    first = write_csv(tmp_path / "a.csv", [(f"<p>q{i}?</p>", f"a{i}") for i in range(3)])
    second = write_csv(tmp_path / "b.csv", [("q9?", "a </b>"), ("q8?", "a"), ("q7?", "b")])
    manifest = prepare(PrepareSettings((first, second), vocab_file, dev_share=0), str(tmp_path / "out"))
    assert [entry["html"] for entry in manifest["inputs"]] == [{"question": "tags"}, {}]
    assert manifest["changed"] == {"questions turned from HTML into text": 3, "answers with HTML tags, kept": 1}


def test_escaped_html_is_turned_into_text(tmp_path, vocab_file):
    rows = [(f"q{i}?", f"&lt;p&gt;It is &amp;lt;{i}&lt;/p&gt;&lt;p&gt;x") for i in range(3)]
    answers, manifest = pairs_of(tmp_path, vocab_file, [*rows, ("q5?", "<p>Type &lt;br&gt;</p>"), ("q6?", "x &lt;5")])
    assert answers == {
        "q0?": "It is <0\nx",
        "q1?": "It is <1\nx",
        "q2?": "It is <2\nx",
        "q5?": "Type <br>",
        "q6?": "x <5",
    }
    assert manifest["inputs"][0]["html"] == {"answer": "escaped tags"}
    # In a column of HTML, escaped tags are text.
    column = {"answer": html_columns.TAGS}
    assert html_columns.clean("&lt;p&gt;", Field("answer"), column, collections.Counter()) == "<p>"


def test_empty_fields_do_not_count_and_equal_texts_are_duplicates(tmp_path, vocab_file):
    rows = [("q1?", ""), ("q2?", "NULL"), ("q3?", " "), ("q4?", "<p>a</p>"), ("q4?", "a<br>")]
    _, manifest = pairs_of(tmp_path, vocab_file, rows)
    table = str(tmp_path / "p.csv")
    assert manifest["refused"] == {
        "empty answer": {"rows": 2, "first": f"{table} line 2"},
        "answer is the word NULL": {"rows": 1, "first": f"{table} line 3"},
        "the same pair occurs before": {"rows": 1, "first": f"{table} line 6"},
    }
    assert manifest["changed"]["answers turned from HTML into text"] == 2


def test_the_first_rows_decide_for_all(tmp_path, vocab_file, monkeypatch):
    monkeypatch.setattr(html_columns, "_ROWS", 3)
    monkeypatch.setattr(chunks, "_MAX_ROWS", 2)  # a chunk alone would decide otherwise
    answers, _ = pairs_of(tmp_path, vocab_file, [*HTML, *((f"q{i}?", f"plain {i}") for i in range(9)), ("q?", "<p>x")])
    assert answers["q?"] == "x"


WORDS = [
    "nan", "NaN", "NAN", "-nan", "NULL", "null", "(NULL)", "<null>", "[NULL]", "None", "N/A", "n/a", "\\N", "<NA>",
    "#N/A", "NA", "NaT", " NULL\t", "&lt;NA&gt;",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("side", ["question", "answer"])
def test_null_words_are_refused(tmp_path, vocab_file, word, side):
    row = (word, "an answer") if side == "question" else ("a question?", word)
    _, manifest = pairs_of(tmp_path, vocab_file, [("q?", "a"), row])
    shown = word.strip().replace("&lt;", "<").replace("&gt;", ">")
    reason = f"{side} is the word {shown}"
    assert manifest["refused"] == {reason: {"rows": 1, "first": f"{tmp_path / 'p.csv'} line 3"}}


def test_null_words_are_kept_by_flag(tmp_path, vocab_file):
    answers, manifest = pairs_of(tmp_path, vocab_file, [("nan", "NULL"), ("q?", "\\N")], keep_null_words=True)
    assert answers == {"nan": "NULL", "q?": "\\N"}
    assert not manifest["refused"]


@pytest.mark.parametrize(
    "text",
    ["None.", "None of them", "none", "na", "Na", "Null", "nan bread", "N/A: see b", "NULL pointer", "0", "-", "?a"],
)
def test_texts_that_are_not_null_words(text):
    assert not cleaning.is_null_word(text)


def test_source_and_focus_may_be_null_words(tmp_path, vocab_file):
    path = tmp_path / "p.csv"
    path.write_text("question,answer,source,focus\nq1?,a1,NULL,nan\nq2?,a2,web,None\nq3?,a3,,x\n")
    columns = ["question", "source", "focus"]
    for keep, first in ((False, {"source": "p.csv", "focus": ""}), (True, {"source": "NULL", "focus": "nan"})):
        out = str(tmp_path / f"out{keep}")
        prepare(PrepareSettings((str(path),), vocab_file, dev_share=0, keep_null_words=keep), out)
        rows = sorted(PreparedFolder(out).table(columns).to_pylist(), key=lambda row: row["question"])
        assert rows[0] == {"question": "q1?"} | first
        assert rows[2] == {"question": "q3?", "source": "p.csv", "focus": "x"}


def test_the_command_reports_its_decisions(tmp_path, vocab_file):
    rows = [*HTML, ("q5?", "NULL")]
    command = [sys.executable, "-m", "data_pipeline.prepare", f"--tokenizer={vocab_file}"]
    command += [f"--input={write_csv(tmp_path / 'p.csv', rows)}"]

    def run(name, *flags):
        top = pathlib.Path(__file__).parents[1]
        call = [*command, f"--output_dir={tmp_path}/{name}", *flags]
        done = subprocess.run(call, cwd=top, capture_output=True, text=True, check=True)
        return done.stderr, json.loads(done.stdout.splitlines()[-1])

    stderr, shown = run("a")
    assert "p.csv: most answers hold HTML tags; they are turned into text." in stderr
    assert shown["refused"].keys() == {"answer is the word NULL"}
    stderr, shown = run("b", "--html=keep", "--keep_null_words")
    assert "HTML" not in stderr
    assert shown["changed"] == {"answers with HTML tags, kept": 3}
    assert not shown["refused"]
    write_csv(tmp_path / "p.csv", [*HTML[:1], *PLAIN])
    stderr, _ = run("c")
    assert "1 answers with HTML tags, kept: most texts of their columns hold none. --html=text" in stderr


def test_a_folder_prepared_before_these_settings_is_read(tmp_path, corpus, vocab_file):
    prepare(PrepareSettings((corpus,), vocab_file), str(tmp_path / "out"))
    path = tmp_path / "out" / manifests.MANIFEST_FILE
    manifest = json.loads(path.read_text())
    for name in ("html", "keep_null_words"):
        del manifest["settings"][name]
    for entry in manifest["inputs"]:
        del entry["html"]
    path.write_text(json.dumps(manifest))
    folder = PreparedFolder(str(tmp_path / "out"))
    assert len(folder.fingerprint()) == 64
    assert folder.num_rows("train") + folder.num_rows("dev") == 61


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="html is 'strip'; expected auto, keep, text"):
        PrepareSettings(("a.csv",), "vocab", html="strip")
