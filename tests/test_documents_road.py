"""From three PDFs and a page of the web to an answer with its page, with a published encoder."""

import json
import pathlib
import subprocess
import sys

import pytest

from docproduct.answering import Answerer, Folders, Query
from tests.pdfs import Line, paragraph, typeset

TEXTS = {
    "asthma.pdf": (
        "Asthma guide",
        (
            "Overview",
            "Asthma is a disease of the lungs. The airways swell and become narrow, so that breathing is hard.",
        ),
        (
            "Treatment",
            "People with asthma take medicine every day to prevent symptoms, and use an inhaler in an attack.",
        ),
    ),
    "gout.pdf": (
        "Living with gout",
        ("Causes", "Too much uric acid in the blood forms crystals in the joints, often in the big toe, which hurt."),
        ("Treatment", "Doctors prescribe anti-inflammatory drugs or colchicine for a sudden attack of gout."),
    ),
    "kidney_stones.pdf": (
        "Kidney stones",
        ("Diagnosis", "A urine test, a blood test and an x ray or CT scan show where kidney stones are and how large."),
        ("Prevention", "Drinking enough fluids, 2 to 3 liters a day, is the best way to prevent kidney stones."),
    ),
}
PAGE = """<!DOCTYPE html><html><head><title>High blood pressure</title></head><body><main><article>
<h1>High blood pressure</h1><h2>Medicines</h2><p>Alpha blockers reduce the nerve impulses that tighten blood vessels, so
that blood flows more freely and the blood pressure goes down.</p></article></main></body></html>"""
ASKED = [
    ("What helps in an asthma attack?", "Asthma guide, Treatment, page 2"),
    ("Which drug is used for sudden gout?", "Living with gout, Treatment, page 2"),
    ("Why does my big toe hurt?", "Living with gout, Causes, page 1"),
    ("How much should I drink to prevent kidney stones?", "Kidney stones, Prevention, page 2"),
    ("How do doctors find kidney stones?", "Kidney stones, Diagnosis, page 1"),
    ("How do alpha blockers work?", "High blood pressure, Medicines"),
]


@pytest.fixture(scope="module")
def guides(tmp_path_factory):
    """A folder of documents; each section of a PDF is a page."""
    folder = tmp_path_factory.mktemp("guides")
    for name, (title, *sections) in TEXTS.items():
        pages = [[Line(section, 16), *paragraph(text)] for section, text in sections]
        pages[0].insert(0, Line(title, 22))
        (folder / name).write_bytes(typeset(pages, title))
    (folder / "blood_pressure.html").write_text(PAGE, encoding="utf-8")
    return folder


def run(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1], check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_documents_answer_with_their_page(minilm, guides, tmp_path):
    prepared, index = str(tmp_path / "prepared"), str(tmp_path / "index")
    told = run(
        *("data_pipeline.prepare", "--rows=passages", f"--input={guides}"),
        *(f"--tokenizer={minilm}", f"--output_dir={prepared}"),
    )
    assert (sum(split["passages"] for split in told["counts"].values()), told["refused"]) == (7, {})
    told = run("docproduct.index", f"--model_dir={minilm}", f"--prepared_dir={prepared}", f"--index_dir={index}")
    assert (told["documents"], told["pairs"], told["of_documents"]["on"]) == (4, 0, "sample")
    answerer = Answerer.load(Folders(minilm, index))
    for question, place in ASKED:
        answer = answerer.answer(Query(question))
        assert (answer.answerable, answer.hits[0].place) == (True, place), question
    for question in ("How long do I boil an egg?", "What is the capital of France?", "How is malaria treated?"):
        assert not answerer.answer(Query(question)).answerable, question
