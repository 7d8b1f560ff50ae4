"""Folders as inputs: formats named for them, several splits, reports on them, and what a prepared folder depends on."""

import json

import pytest

from data_pipeline.corpora import PAIRS, Columns, Refusals
from data_pipeline.corpora.facts import read_facts
from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.folders import files
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.report.corpus import open_corpus
from data_pipeline.rows import ANNOTATIONS
from tests.test_format_folders import beir
from tests.test_formats import CDC, ENGLISH, MEDQUAD, lines, read, texts, written


@pytest.mark.parametrize("judgments", ["", "qrels/train.tsv"])
def test_passages_of_a_beir_folder_do_not_depend_on_judgments(tmp_path, vocab_file, judgments):
    path = beir(tmp_path / "x", ("train", "test")) / judgments
    passages, *_ = read(path, rows="passages")
    assert [(row.text, row.source) for row in passages] == [("Honey eases it.", "x"), ("Rest helps.", "x")]
    settings = PrepareSettings(find_inputs([str(path)], Columns(), Refusals(), PASSAGES), vocab_file, dev_share=0)
    manifest = prepare(settings, str(tmp_path / "out"), num_workers=0, reader=PASSAGES)
    assert manifest["counts"]["train"]["passages"] == 2


def test_rows_with_a_list_of_paragraphs_are_no_squad(tmp_path):
    row = {"id": "2hop_1", "paragraphs": [{"idx": 0, "title": "Honey"}], "question": "What eases it?", "answer": "Tea."}
    path = written(tmp_path / "a.jsonl", lines([row, row | {"question": "And rest?"}]))
    assert texts(read(path)[0]) == [("What eases it?", "Tea."), ("And rest?", "Tea.")]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_report_on_a_folder(tmp_path, slash):
    first = written(tmp_path / "MedQuAD" / "2_GARD_QA" / "1.xml", MEDQUAD)
    second = written(tmp_path / "MedQuAD" / "9_CDC_QA" / "2.xml", CDC)
    corpus = open_corpus([f"{tmp_path}/MedQuAD{slash}"], PAIRS, Columns())
    assert corpus.name == "MedQuAD"
    assert corpus.files == [{"name": "MedQuAD", "bytes": first.stat().st_size + second.stat().st_size}]
    (batch,) = corpus.batches()
    assert [row.where.split(" pair")[0] for row in batch.rows] == ["MedQuAD/2_GARD_QA/1.xml", "MedQuAD/9_CDC_QA/2.xml"]
    assert corpus.refusals()["reasons"][0]["examples"][0]["where"].startswith("MedQuAD/2_GARD_QA/1.xml")


def test_a_prepared_folder_depends_on_the_columns_of_annotations(tmp_path, corpus, vocab_file, monkeypatch):
    hashed, fingerprint = [], files.fingerprint
    monkeypatch.setattr(files, "fingerprint", lambda content: hashed.append(content) or fingerprint(content))
    state = prepare(PrepareSettings((corpus,), vocab_file), str(tmp_path / "out"), num_workers=0)["state"]
    (content,) = [content for content in hashed if fingerprint(content) == state]
    assert list(content[-1]) == list(ANNOTATIONS)


def test_a_format_without_a_reader_of_folders_reads_each_file(tmp_path):
    paths = [written(tmp_path / "in" / name, ENGLISH) for name in ("a.txt", "b/c.txt")]
    columns = Columns(format="meddialog")
    found = find_inputs([str(tmp_path / "in")], columns, Refusals())
    assert found == tuple(map(str, paths))
    assert [len(read(path, columns)[0]) for path in found] == [2, 2]


@pytest.mark.parametrize("name", ["medquad", "squad"])
def test_a_folder_without_files_of_the_named_format_is_refused(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    if name == "medquad":
        written(folder / "a.csv", "question,answer\nq,a\n")
    with pytest.raises(ValueError, match=f"in holds no file of the format {name}. Check --input and --format."):
        find_inputs([str(folder)], Columns(format=name), Refusals())


def test_braces_in_the_name_of_a_column_are_text(tmp_path):
    path = written(tmp_path / "a.jsonl", json.dumps({"drug": "Aspirin", "dose {mg}": 4}) + "\n")
    ((_, pair),) = read_facts(str(path), Columns(), Refusals())
    assert (pair.question, pair.answer) == ("What is the dose {mg} of Aspirin?", "Dose {mg} of Aspirin: 4.")
