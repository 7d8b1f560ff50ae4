import json

import pytest

from data_pipeline import beir


def folder(path, corpus, queries, qrels):
    (path / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in rows]
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    (path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, encoding="utf-8")
    return str(path)


def test_blank_lines_and_quotes_in_ids_are_read(tmp_path):
    data = beir.read(
        folder(tmp_path, [('d"1', "one"), ("d2", "two")], [("q1", "?")], 'q1\td"1\t2\n\nq1\td2\t0\n\n'), "test"
    )
    assert data == beir.BeirData({'d"1': "one", "d2": "two"}, {"q1": "?"}, {"q1": {'d"1': 2, "d2": 0}}, 0)


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_duplicate_ids_are_refused(tmp_path, name):
    rows = {"corpus": [("d1", "one")], "queries": [("q1", "?")]}
    rows[name] *= 2
    with pytest.raises(ValueError, match=rf"{name}.jsonl line 2 has the id '.1' of an earlier line"):
        beir.read(folder(tmp_path, rows["corpus"], rows["queries"], "q1\td1\t1\n"), "test")


def test_damaged_judgments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"test.tsv line 3 is \['q1', 'd1'\]; expected query-id, corpus-id"):
        beir.read(folder(tmp_path, [("d1", "one")], [("q1", "?")], "q1\td1\t1\nq1\td1\n"), "test")
