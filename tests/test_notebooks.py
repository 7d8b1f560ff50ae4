"""The notebooks run from their first cell to the last, and hold no output."""

import os
import pathlib
import subprocess
import sys

import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Runs in a process of its own: the kernel's event loop gives warnings, which are errors in tests.
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


def test_the_list_of_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["ask_a_question.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert path.stat().st_size < 20_000


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, minilm, smollm2, tmp_path):
    del minilm, smollm2
    environment = os.environ | {
        "PYTHONPATH": str(path.parents[1]),
        "WORK_DIR": str(tmp_path / "work"),
    }
    command = [sys.executable, "-c", RUN, str(path), str(path.parent), str(tmp_path / "done.ipynb")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    cells = [cell for cell in nbformat.read(tmp_path / "done.ipynb", as_version=4).cells if cell.cell_type == "code"]
    shown = [str([output.get("data") for output in cell.outputs]) for cell in cells]
    assert "image/png" in shown[2]
    assert "No stored answer is close enough" in shown[4]
    assert all("not medical advice" in text for text in shown[4:6])
    assert "Written by SmolLM2" in shown[5]
