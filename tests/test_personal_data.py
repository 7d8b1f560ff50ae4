"""What a report shows is masked, however names and addresses are set, and so are the reasons for refused rows."""

import json
import re

import pytest

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.corpora.dialogues import DIALOGUES, UNKNOWN_ROLE
from data_pipeline.report.corpus import TableCorpus
from data_pipeline.report.overlaps import Overlap
from data_pipeline.report.personal_data import around, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("It passes.\nBest regards,\n\nJohn Smith", "It passes. Best regards, [name]"),
        ("It passes. Regards,\r\nJohn\r\n", "It passes. Regards, [name]"),
        ("Regards,  John\nSmith.", "Regards, [name]."),
        ("Ask Dr.  Smith today.", "Ask Dr. [name] today."),
        ("Ask Dr.\nSmith today.", "Ask Dr. [name] today."),
        ("Ask Mrs J.\tSmith  Jones today.", "Ask Mrs [name] today."),
        ("Hello, my  name is John Smith", "Hello, my name is [name]"),
        ("Hello, my\nname\nis\nJohn\nSmith", "Hello, my name is [name]"),
        ("Write to john&#64;example.com now", "Write to [email] now"),
        ("Ask Dr.&nbsp;Smith today.", "Ask Dr. [name] today."),
    ],
)
def test_blanks_and_entities_hide_no_names(text, line):
    assert shown(text) == line
    assert around(text, re.compile(r"\[")) == line


@pytest.mark.parametrize("names", [("role", "content"), ("from", "value")])
def test_the_reason_for_a_refused_row_holds_none_of_its_text(tmp_path, names):
    path = tmp_path / "talks.jsonl"
    turns = [("user", "Why?"), ("jane.roe@mail.example", "So.")]
    path.write_text(json.dumps({"messages": [dict(zip(names, turn, strict=True)) for turn in turns]}) + "\n")
    corpus = TableCorpus([str(path)], DIALOGUES, Columns())
    assert not [row for batch in corpus.batches() for row in batch.rows]
    (refused,) = corpus.refusals()["reasons"]
    assert refused["reason"] == UNKNOWN_ROLE
    assert "expected system, user, human" in UNKNOWN_ROLE


def test_reasons_and_notes_are_masked(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer\nWhy?,So.\n")
    corpus = TableCorpus([str(path)], PAIRS, Columns())
    corpus._refusals.add("bad jane@mail.example", str(path))
    corpus._refusals.note("odd jane@mail.example", str(path))
    content = corpus.refusals()
    assert content["reasons"][0]["reason"] == "bad [email]"
    assert content["notes"][0]["note"] == "odd [email]"


def test_a_repeated_leak_is_masked_once(tmp_path, monkeypatch):
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer\n" + "Why is it sore?,It is a cold.\n" * 5)
    rows = [row for batch in TableCorpus([str(path)], PAIRS, Columns()).batches() for row in batch.rows]
    overlap, masked = Overlap("test", "", 0.8), []
    overlap.hold(rows[:1])
    monkeypatch.setattr("data_pipeline.report.overlaps.shown", lambda text: masked.append(text) or text)
    overlap.compare(rows)
    assert masked == ["Why is it sore?", "It is a cold."]
