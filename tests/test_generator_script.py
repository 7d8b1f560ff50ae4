"""What trains a generator from texts and flags: train_gpt2.py, and the starter."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import types

import pytest

import train_gpt2
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.prompts.chat_prompts import REFUSAL
from docproduct import index
from docproduct.answering import Answerer, Query
from docproduct.context_rows import KindShares
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index
from docproduct.layers.lora import LoraSettings
from docproduct.recipes import starter
from docproduct.systems.generator import TrainedGenerator, refusal
from docproduct.systems.generator.refusal import Refusal
from tests import llama_folders
from tests.test_generator_train import SETTINGS, SIZES

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "train_gpt2.py")


@pytest.mark.long
def test_the_script(prepared, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("\n".join(f"line {i} of the book says that {i} is {i * i}" for i in range(2_000)), encoding="utf-8")
    small = ["--width=16", "--num_layers=1", "--num_heads=2", "--batch_size=8", "--precision=float32"]

    def run(*arguments, check=True):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.run(
            [sys.executable, SCRIPT, *arguments, *small], capture_output=True, text=True, check=check, env=environment
        )

    def folder(name):
        return f"--tokens_dir={tmp_path}/{name}_tokens", f"--model_dir={tmp_path}/{name}"

    shown = run("--help", check=False).stdout
    assert all(f"--{name}:" in shown for name in ("task", "tokens_dir", "learning_rate", "epochs", "[no]resume"))
    arguments = ("--task=language_model", f"--text={book}", *folder("lm"), "--vocab_size=300", "--window=64")
    killed = subprocess.Popen(
        [sys.executable, SCRIPT, *arguments, *small, "--checkpoint_steps=2"], stderr=subprocess.PIPE, text=True
    )
    while not os.path.exists(tmp_path / "lm/checkpoint.safetensors") and killed.poll() is None:
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = run(*arguments, "--resume", "--checkpoint_steps=2")
    found = json.loads(done.stdout)
    assert {"model_dir", "epoch", "perplexity", "byte_perplexity"} <= set(found)
    # `--answer_tokens` of the default would not fit.
    arguments = ("--task=closed_book", f"--prepared_dir={prepared.path}", f"--base_dir={tmp_path}/lm", *folder("pairs"))
    done = run(*arguments, "--answer_tokens=30", "--num_answers=2")
    assert {"perplexity", "ROUGE-L"} <= set(json.loads(done.stdout))
    for wrong, message in (
        (("--task=poem", *folder("x")), "poem"),
        (
            ("--task=context_answer", f"--tokens_dir={tmp_path}/lm_tokens", f"--model_dir={tmp_path}/x"),
            "holds rows of task language_model; expected context_answer",
        ),
    ):
        done = run(*wrong, check=False)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not os.path.exists(tmp_path / "x")


def test_what_a_task_is_made_of_is_asked_for(prepared, windows_dir, bpe, tmp_path):
    values = types.SimpleNamespace(
        **{"base_dir": None, "window": None, "prepared_dir": None, "text": [], "vocab_size": 300, "seed": 0},
        **{"dev_share": 0.05, "tokens_dir": str(tmp_path / "t")},
    )
    for task, message in (("language_model", "There is no text"), ("context_answer", "There is no folder")):
        values.task = task
        with pytest.raises(ValueError, match=message):
            train_gpt2._make_tokens(values)
    values.task, values.tokens_dir = "language_model", windows_dir
    assert train_gpt2._make_tokens(values).rows == "language_model"  # what is there needs no text
    values.task, values.prepared_dir = "closed_book", prepared.path
    with pytest.raises(ValueError, match="closed_book needs a tokenizer"):
        train_gpt2._make_tokens(values)
    assert list(tmp_path.iterdir()) == []
    TrainedGenerator.make(dataclasses.replace(SIZES, vocab_size=280), bpe).save(str(tmp_path / "small"))
    values.base_dir, values.window, values.tokens_dir = str(tmp_path / "small"), 49, str(tmp_path / "t")
    with pytest.raises(ValueError, match="window is 49; expected at most 48, the positions of"):
        train_gpt2._make_tokens(values)
    assert not (tmp_path / "t").exists()


@pytest.mark.long
def test_a_starter_is_made_once(retriever, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(starter.fit_refusal, "fit", lambda *parts: Refusal(1e3, 1.0, 1.0, 20))
    index.build(retriever, prepared, str(tmp_path / "index"))
    found = Index(str(tmp_path / "index"), retriever)
    llama_folders.write(tmp_path / "chat")
    settings = starter.StarterSettings(
        most_rows=10,
        prompt=PromptSettings(1, 1_000, 20),
        kinds=KindShares(own_share=0.6, unanswerable_share=0.4),
        dev_questions=4,
        lora=LoraSettings(rank=2),
        training=dataclasses.replace(SETTINGS, epochs=1),
    )
    arguments = (prepared, retriever, found, str(tmp_path / "chat"), str(tmp_path / "starter"))
    best = starter.make(*arguments, settings)
    assert best["epoch"] == 1  # the trained adapter is better than none
    writer = GenerationSession.load(str(tmp_path / "starter" / "saved_model"))
    assert writer.prompt == settings.prompt
    answerer = Answerer(retriever, found, writer)
    assert answerer.answer(Query("what is a3?", threshold=-1.0)).generated is not None
    ((written,),) = writer.write([[5, 6]], GenerationSettings(max_tokens=2))
    assert written.ids[0] == writer.tokenizer.encode([REFUSAL])[0][0]
    assert refusal.load(str(tmp_path / "starter" / "adapter")).bias == 1e3
    # What is there is used again.
    assert starter.make(*arguments, settings) == best
    assert os.listdir(tmp_path / "starter" / "saved_model").count("2") == 0
    with pytest.raises(ValueError, match="contexts was made differently: .*answer_tokens was 20, is 24"):
        starter.make(*arguments, dataclasses.replace(settings, prompt=PromptSettings(1, 1_000, 24)))
