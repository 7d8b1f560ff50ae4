import json

import pytest

from data_pipeline import beir
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from tests.conftest import write_csv


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


@pytest.fixture(scope="module")
def symptoms(vocab_file, tmp_path_factory):
    """30 questions, two of which have two answers, and one that no rule knows."""
    folder = tmp_path_factory.mktemp("symptoms")
    letters = "abcdefghijklmnopqrstuvwxyzäöüß"[:30]
    rows = [(f"What are the symptoms of {letter}{letter}?", f"{letter} hurts.") for letter in letters]
    rows += [("What are the symptoms of aa?", "it itches."), ("What are the symptoms of bb?", "it itches.")]
    rows += [("Warum?", "Darum.")]
    prepare(PrepareSettings((write_csv(folder / "t.csv", rows),), vocab_file, dev_share=0.0), str(folder / "p"))
    return PreparedFolder(str(folder / "p"))


def test_the_lowest_hashes_are_drawn(symptoms, tmp_path):
    counts = beir.write(symptoms, "train", str(tmp_path / "all"))
    assert counts == {"corpus": 32, "queries": 31, "judgments": 33}
    everything = beir.read(str(tmp_path / "all"), "train")
    queries, texts = sorted(everything.queries, key=int), everything.corpus
    for number, (count, documents) in enumerate(((4, 9), (4, 2), (31, 0))):
        path = str(tmp_path / f"{number}")
        beir.write(symptoms, "train", path, drawn=beir.Drawn(queries=count, documents=documents))
        data = beir.read(path, "train")
        assert set(data.queries) == set(queries[:count])
        assert data.qrels == {query: everything.qrels[query] for query in data.queries}
        # Every relevant answer is there, then the answers with the lowest hashes.
        relevant = {answer for answers in data.qrels.values() for answer in answers}
        others = sorted(texts.keys() - relevant, key=int)[: max(documents - len(relevant), 0)]
        assert set(data.corpus) == (relevant.union(others) if documents else set(texts))
        assert data.corpus.items() <= texts.items()


def test_questions_in_other_words_keep_their_answers(symptoms, tmp_path):
    plain, asked = str(tmp_path / "plain"), str(tmp_path / "asked")
    beir.write(symptoms, "train", plain)
    beir.write(symptoms, "train", asked, drawn=beir.Drawn(reworded=True))
    before, after = beir.read(plain, "train"), beir.read(asked, "train")
    left_out = before.queries.keys() - after.queries.keys()
    assert {before.queries[query] for query in left_out} == {"Warum?"}
    assert after.corpus == before.corpus
    assert after.qrels == {query: before.qrels[query] for query in after.queries}
    assert all(text != before.queries[query] for query, text in after.queries.items())
    assert not {text.lower() for text in after.queries.values()} & {text.lower() for text in before.queries.values()}
    again = str(tmp_path / "again")
    beir.write(symptoms, "train", again, drawn=beir.Drawn(reworded=True))
    assert beir.read(again, "train") == after


def test_a_table_that_no_rule_knows_is_refused(vocab_file, tmp_path):
    rows = [("Warum?", "Darum.")]
    prepare(PrepareSettings((write_csv(tmp_path / "t.csv", rows),), vocab_file, dev_share=0.0), str(tmp_path / "p"))
    with pytest.raises(ValueError, match="No train question of .* can be asked in other words. Leave out --reworded"):
        beir.write(PreparedFolder(str(tmp_path / "p")), "train", str(tmp_path / "b"), drawn=beir.Drawn(reworded=True))
