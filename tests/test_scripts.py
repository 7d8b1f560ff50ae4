"""The top-level scripts, as a user runs them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from docproduct.index import build
from tests.test_bert import randomize

TOP = pathlib.Path(__file__).parents[1]


def run(script, *arguments, **options):
    command = [sys.executable, str(TOP / script), *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_serve(retriever, prepared, tmp_path):
    randomize(retriever.model)
    model, index = tmp_path / "model", str(tmp_path / "index")
    model.mkdir()
    retriever.save_config(str(model), {})
    retriever.save_weights(str(model))
    build(retriever, prepared, index)
    folders = (f"--model_dir={model}", f"--index_dir={index}")

    done = run("serve.py", *folders, "--question=what is a3?", "--k=2", check=True)
    shown = json.loads(done.stdout)
    assert len(shown["sources"]) == 2
    assert "not medical advice" in shown["disclaimer"]
    assert shown["answer"] in done.stderr

    done = run("serve.py", *folders, input="what is a3?\n  \nwhat is b4?\n", check=True)
    assert done.stderr.count("not medical advice") == 2
    assert done.stderr.count("error: The question is empty") == 1

    for arguments, message in ((["--question= "], "The question is empty"), (["--question=a", "--k=99"], "k is 99")):
        done = run("serve.py", *folders, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_train_embeddings(prepared, tmp_path):
    done = run("train_embeddings.py", f"--prepared_dir={tmp_path}", f"--model_dir={tmp_path}/model")
    assert done.returncode == 1
    assert "has no manifest.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(tmp_path / "model")
    arguments = (f"--prepared_dir={prepared.path}", f"--model_dir={tmp_path}/model", "--batch_size=16")
    done = run("train_embeddings.py", *arguments, check=True)
    assert {"model_dir", "epoch", "RR@10", "Success@1"} <= set(json.loads(done.stdout))
