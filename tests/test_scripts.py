"""The top-level scripts, as a user runs them."""

import json
import os
import subprocess
import sys

import pytest

from docproduct.index import Index, build
from tests import commands
from tests.commands import TOP, run_code
from tests.test_bert import randomize


def run(script, *arguments, **options):
    """Runs a script (name.py) or a module (its dotted name)."""
    start = [str(TOP / script)] if script.endswith(".py") else ["-m", script]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, **options)


@pytest.mark.long
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

    wrong = [
        (["--question= "], "The question is empty"),
        (["--question=a", "--k=99"], "k is 99"),
        (["--question=a", "--temperature=1"], "--temperature is for a generator. Give --generator_dir"),
    ]
    for arguments, message in wrong:
        done = run("serve.py", *folders, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.long
def test_train_embeddings(prepared, tmp_path):
    done = run("train_embeddings.py", f"--prepared_dir={tmp_path}", f"--model_dir={tmp_path}/model")
    assert done.returncode == 1
    assert "has no manifest.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(tmp_path / "model")
    arguments = (f"--prepared_dir={prepared.path}", f"--model_dir={tmp_path}/model", "--batch_size=16")
    first = json.loads(run("train_embeddings.py", *arguments, check=True).stdout)
    assert {"model_dir", "epoch", "RR@10", "Success@1"} <= set(first)

    # The folder is finished: --resume has nothing to do, nothing is replaced unasked, --overwrite starts anew.
    done = run("train_embeddings.py", *arguments, "--resume", check=True)
    assert json.loads(done.stdout) == first
    assert "epoch 1/1" not in done.stderr
    metrics = (tmp_path / "model/metrics.json").read_bytes()
    (tmp_path / "model/mine.txt").write_text("of the user")
    done = run("train_embeddings.py", *arguments)
    assert done.returncode == 1
    assert f"error: {tmp_path}/model is not empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "model/metrics.json").read_bytes() == metrics
    assert (tmp_path / "model/mine.txt").exists()
    done = run("train_embeddings.py", *arguments, "--overwrite", check=True)
    assert "epoch 1/1" in done.stderr
    assert json.loads(done.stdout)["RR@10"] == pytest.approx(first["RR@10"], abs=1e-3)
    assert not (tmp_path / "model/mine.txt").exists()


@pytest.mark.slow
def test_beir_evaluate_and_index_commands(retriever, prepared, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    retriever.save_config(str(model), {})
    retriever.save_weights(str(model))
    source, beir_dir, index_dir = f"--prepared_dir={prepared.path}", str(tmp_path / "beir"), str(tmp_path / "index")

    done = run("data_pipeline.beir", source, "--split=dev", f"--output_dir={beir_dir}", check=True)
    counts = json.loads(done.stdout)
    assert (counts["output_dir"], counts["corpus"]) == (beir_dir, 60)  # of 61 pairs, two have one answer

    arguments = ("--split=dev", f"--beir_dir={beir_dir}", f"--run_file={tmp_path}/run")
    done = commands.run("docproduct.evaluate", "retrieval", f"--model_dir={model}", *arguments)
    metrics = json.loads(done.stdout)
    assert (metrics["split"], metrics["documents"], metrics["queries"]) == ("dev", 60, counts["queries"])
    assert len((tmp_path / "run").read_text().splitlines()) == 60 * counts["queries"]

    arguments = (f"--model_dir={model}", source, f"--index_dir={index_dir}", "--passage_tokens=8")
    done = run("docproduct.index", *arguments, "--passage_overlap=1", check=True)
    manifest = json.loads((tmp_path / "index/manifest.json").read_text())
    calibrated = {name: manifest[name] for name in ("threshold", "answerable")}
    factories = {"factories": {side: kind["factory"] for side, kind in manifest["kinds"].items()}}
    assert json.loads(done.stdout) == {"index_dir": index_dir} | calibrated | manifest["counts"] | factories
    assert factories == {"factories": {"answer": "Flat", "question": "Flat"}}
    assert manifest["settings"]["passage_tokens"] == 8
    assert Index(index_dir, retriever).num_answers == 60


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("data_pipeline.beir", ["--prepared_dir={0}", "--output_dir={0}/out"], "has no manifest.json"),
        ("docproduct.evaluate", ["retrieval", "--model_dir=bm25", "--beir_dir={0}"], "holds judgments of: nothing"),
        ("docproduct.index", ["--model_dir={0}", "--prepared_dir={0}", "--index_dir={0}/out"], "holds no model"),
    ],
)
def test_missing_inputs_are_reported_in_one_line(tmp_path, module, arguments, message):
    done = commands.run(module, *(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_without_flags_train_embeddings_trains_the_defaults():
    code = (
        "import train_embeddings as script; from absl import flags\n"
        "script._define_flags(); flags.FLAGS(['script', '--prepared_dir=p', '--model_dir=m'])\n"
        "print(script._config() == script.RetrieverTraining('p'))\n"
        "flags.FLAGS(['script', '--freeze_bert', '--loss=symmetric', '--matryoshka_dims=8,4', '--boundaries=9'])\n"
        "print(script._config())"
    )
    same, changed = run_code(code)
    assert same == "True"
    for part in ("learning_rate=0.001", "kind='symmetric'", "matryoshka_dims=(8, 4)", "boundaries=(9,)"):
        assert part in changed
