"""Folders that are read as a whole: BEIR, MTEB, Hugging Face's datasets, and saved web pages."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpora import Columns, Refusals, beir_folders, formats, web_pages
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.corpora.paths import find_inputs
from tests.test_formats import lines, read, texts, written

CORPUS = [
    {"_id": "d1", "title": "Cough", "text": "Honey eases it."},
    {"_id": "d2", "title": "", "text": "Rest helps."},
    {"_id": "d3", "text": 7},
]
QUERIES = [{"_id": "q1", "text": "What eases a cough?"}, {"_id": "q2", "text": "And a cold?"}]
QRELS = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d2", 1), ("q2", "d9", 1)]
PAIRS = [("What eases a cough?", "Cough\nHoney eases it."), ("And a cold?", "Rest helps.")]
JSON_LD = {
    "@context": "https://schema.org",
    "@graph": [
        {"@type": "WebSite", "name": "x"},
        {
            "@type": ["QAPage"],
            "mainEntity": {
                "@type": "Question",
                "name": "What eases it?",
                "text": "<p>A <b>dry</b> cough &amp; more.</p>",
                "acceptedAnswer": {"@type": "Answer", "text": "Honey."},
                "suggestedAnswer": [{"@type": "Answer", "text": "Rest &amp; tea."}, {"@type": "Answer"}, 3],
            },
        },
    ],
}
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="{}"><link rel="canonical" href="https://a.example/1">
{}</head><body>{}</body></html>"""
MICRODATA = """<div itemscope itemtype="https://schema.org/FAQPage">
<div itemscope itemprop="mainEntity" itemtype="https://schema.org/Question"><h2 itemprop="name">What eases it?</h2>
<div itemscope itemprop="author" itemtype="https://schema.org/Person"><i itemprop="text">Ann</i></div>
<div itemscope itemprop="acceptedAnswer" itemtype="https://schema.org/Answer">
<p itemprop="text">Hon\u00e9y and <b>tea</b>.</p></div></div></div>"""


def beir(folder, splits=("test",)):
    written(folder / "corpus.jsonl", lines(CORPUS))
    written(folder / "queries.jsonl", lines(QUERIES))
    for split in splits:
        table = "query-id\tcorpus-id\tscore\n" + "".join("\t".join(map(str, row)) + "\n" for row in QRELS)
        written(folder / "qrels" / f"{split}.tsv", table)
    return folder


def test_a_beir_folder(tmp_path):
    folder = beir(tmp_path / "nfcorpus")
    rows, refused, _ = read(folder)
    assert texts(rows) == PAIRS
    assert {(row.source, row.focus) for row in rows} == {("nfcorpus", "Cough"), ("nfcorpus", "")}
    assert refused == {beir_folders.NOT_RELEVANT: 1, beir_folders.MISSING: 1, beir_folders.NO_TEXT: 1}
    passages, *_ = read(folder, rows="passages")
    assert [(row.title, row.text) for row in passages] == [
        ("Cough", "Honey eases it."),
        ("", "Rest helps."),
    ]
    assert find_inputs([str(folder)], Columns(), Refusals()) == (str(folder),)


def test_of_several_judgments_one_is_named(tmp_path):
    folder = beir(tmp_path / "x", ("train", "test"))
    with pytest.raises(ValueError, match=r"holds judgments of test, train. Name the file of one"):
        read(folder)
    assert texts(read(folder / "qrels" / "train.tsv")[0]) == PAIRS
    names = [
        path.rsplit("/", 1)[1] for path in formats.files_read(str(folder / "qrels" / "test.tsv"), Columns(), "pairs")
    ]
    assert names == ["corpus.jsonl", "queries.jsonl", "test.tsv"]


@pytest.mark.parametrize("name", ["qrels", "data"])
def test_an_mteb_folder_of_parquet(tmp_path, name):
    judged = [dict(zip(("query-id", "corpus-id", "score"), row, strict=True)) for row in QRELS]
    for part, rows in (("corpus", CORPUS[:2]), ("queries", QUERIES), (name, judged)):
        (tmp_path / part).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / part / "test-00000-of-00001.parquet")
    assert texts(read(tmp_path)[0]) == PAIRS


def dataset(folder, rows, num_files=2, **state):
    """Writes what datasets 4 writes with save_to_disk."""
    folder.mkdir(parents=True)
    files = [f"data-{n:05d}-of-{num_files:05d}.arrow" for n in range(num_files)]
    for number, file in enumerate(files):
        part = pa.Table.from_pylist(rows[number::num_files], schema=pa.Table.from_pylist(rows).schema)
        with pa.ipc.new_stream(folder / file, part.schema) as writer:
            writer.write_table(part)
    state = {"_data_files": [{"filename": file} for file in files], "_format_type": None, "_split": "train"} | state
    written(folder / "state.json", json.dumps(state))
    written(folder / "dataset_info.json", "{}")
    return folder


def test_a_folder_of_hugging_face_datasets(tmp_path):
    rows = [{"id": n, "question": f"q{n}", "answer": [f"a{n}"]} for n in range(1_300)]
    folder = dataset(tmp_path / "set", rows)
    pairs, *_ = read(folder)
    assert texts(pairs) == [(f"q{n}", f"a{n}") for n in [*range(0, 1_300, 2), *range(1, 1_300, 2)]]
    assert find_inputs([str(folder)], Columns(), Refusals()) == (str(folder),)
    assert len(formats.files_read(str(folder), Columns(), "pairs")) == 4
    single = written(tmp_path / "one.arrow", (folder / "data-00000-of-00002.arrow").read_bytes())
    assert texts(read(single)[0]) == texts(pairs)[:650]


def test_choices_are_read_from_a_folder_of_datasets(tmp_path):
    rows = [{"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}]
    path = str(dataset(tmp_path / "set", rows, num_files=1))
    ((_, row),) = CHOICE_ROWS.read(path, Columns(), Refusals())
    assert (row.choices, row.correct) == (("x", "y"), (1,))


def test_splits_selections_and_damage_of_datasets_are_named(tmp_path):
    rows = [{"question": "q", "answer": "a"}]
    for split in ("train", "test"):
        dataset(tmp_path / "all" / split, rows, num_files=1)
    written(tmp_path / "all" / "dataset_dict.json", '{"splits": ["train", "test"]}')
    with pytest.raises(ValueError, match="holds the splits test, train. Give each as an input"):
        find_inputs([str(tmp_path / "all")], Columns(), Refusals())
    selected = dataset(tmp_path / "few", rows, num_files=1, _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(ValueError, match="few is a selection of rows"):
        read(selected)
    written(selected / "state.json", "[" * 99_999)  # Python reads no JSON that is nested so deeply
    with pytest.raises(ValueError, match="few/state.json names no data files"):
        read(selected)
    (tmp_path / "all" / "test" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(FileNotFoundError, match="data-00000-of-00001.arrow, which .* names"):
        read(tmp_path / "all" / "test")
    data = tmp_path / "all" / "train" / "data-00000-of-00001.arrow"
    data.write_bytes(data.read_bytes()[:-60])
    with pytest.raises(ValueError, match=f"{data} is a damaged Arrow file"):
        read(tmp_path / "all" / "train")


def json_ld(value):
    return f'<script type="application/ld+json">{value if isinstance(value, str) else json.dumps(value)}</script>'


def test_pages_with_json_ld(tmp_path):
    page = PAGE.format("utf-8", json_ld("{broken") + json_ld([JSON_LD]), "<p>text</p>")
    rows, refused, refusals = read(written(tmp_path / "a.html", page))
    question = "What eases it?\nA dry cough & more."
    assert (texts(rows), refused) == ([(question, "Honey."), (question, "Rest & tea.")], {})
    assert rows[0].url == "https://a.example/1"
    assert list(refusals.notes()) == [web_pages.NOT_JSON]


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16", "hex", "no-such-name"])
def test_pages_with_microdata(tmp_path, encoding):
    page = PAGE.format(encoding, "", MICRODATA)
    known = encoding if encoding in ("utf-8", "iso-8859-1", "utf-16") else "utf-8"
    rows, *_ = read(written(tmp_path / "a.html", page.encode(known)))
    assert texts(rows) == [("What eases it?", "Hon\u00e9y and tea.")]


def test_a_folder_of_pages(tmp_path):
    for number in range(3):
        written(tmp_path / "site" / f"{number}.html", PAGE.format("utf-8", json_ld(JSON_LD), MICRODATA))
    written(tmp_path / "site" / "about.html", PAGE.format("utf-8", "", "About"))
    written(tmp_path / "site" / "style.css", "")
    rows, refused, _ = read(tmp_path / "site")
    assert (len(rows), refused) == (9, {web_pages.NO_QUESTION: 1})
