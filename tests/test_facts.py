"""Databases with a row for each disease: a pair of each fact."""

import json

import pytest

from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.facts import NO_FACT, NO_NAME, read_facts

HEADER = "idx,disease,Symptom,reason,TestsAndProcedures,commonMedications\n"
ROWS = (
    "0,Gout,\"['Joint pain', 'Swelling']\",Crystals in the joints\\xe2\\x80\\x94and pain,\"['X-ray']\",[]\n"
    "1,,\"['Cough']\",,,\n"
    '2,Cough," , ",,,nan\n'
)


def read(path, **columns):
    refusals = Refusals()
    return list(read_facts(str(path), Columns(**columns), refusals)), refusals


def test_each_fact_of_chatdoctors_database_is_a_pair(tmp_path):
    path = tmp_path / "database.csv"
    path.write_text(HEADER + ROWS, encoding="utf-8")
    pairs, refusals = read(path)
    assert [(pair.question, pair.answer, pair.focus) for _, pair in pairs] == [
        ("What are the symptoms of Gout?", "Symptoms of Gout: Joint pain, Swelling.", "Gout"),
        ("What is Gout?", "Crystals in the joints\u2014and pain.", "Gout"),
        ("Which tests are done for Gout?", "Tests for Gout: X-ray.", "Gout"),
    ]
    assert refusals.counts == {NO_NAME: 1, NO_FACT: 1}


def test_any_columns_are_facts(tmp_path):
    path = tmp_path / "drugs.jsonl"
    row = {"drug": "Aspirin", "halfLife": "15 minutes", "max_dose": 4, "FDA": ["1950", "1985"], "note": None}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"drug": "Ibuprofen"}))
    pairs, _ = read(path)
    assert [pair.answer for _, pair in pairs[:3]] == [
        "Half life of Aspirin: 15 minutes.",
        "Max dose of Aspirin: 4.",
        "FDA of Aspirin: 1950, 1985.",
    ]
    assert pairs[1][1].question == "What is the max dose of Aspirin?"
    pairs, _ = read(path, focus="FDA", facts=("#3", "halfLife"))
    assert [(pair.answer, pair.focus) for _, pair in pairs[:2]] == [
        ("Max dose of 1950, 1985: 4.", "1950, 1985"),
        ("Half life of 1950, 1985: 15 minutes.", "1950, 1985"),
    ]


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("disease\nGout\n", {}, "no column with facts beside the names. Columns found: disease. .*--facts_columns"),
        ("idx\n1\n", {}, "no column with names"),
        (HEADER, {"focus": "illness"}, "no column 'illness'"),
        (HEADER, {"facts": ("Symptom", "cure")}, "no column 'cure'"),
        (HEADER, {"question": "reason"}, "--question_column is given. Expected --name_column"),
    ],
)
def test_a_database_without_its_columns_is_refused(tmp_path, content, columns, said):
    path = tmp_path / "database.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read(path, **columns)


def test_columns_of_facts_are_for_databases_only():
    with pytest.raises(ValueError, match="--facts_columns is given. Expected it with --rows=facts only"):
        Columns(facts=("a",)).find("pairs.csv", ["question", "answer"])


def test_a_layout_without_facts_is_named_with_the_rows_that_it_holds(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "t"}\n', encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "q"}\n', encoding="utf-8")
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match="no database of facts.* a BEIR or MTEB folder. Give --rows=pairs or --rows=passages"
    ):
        next(read_facts(str(tmp_path), Columns(), Refusals()))
    with pytest.raises(ValueError, match="--format is 'medquad'; expected for facts: auto, table, "):
        next(read_facts(str(tmp_path), Columns(format="medquad"), Refusals()))
