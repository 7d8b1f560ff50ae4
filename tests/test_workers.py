"""Training in two processes equals training in one; every run has processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors

from data_pipeline.prepare import PrepareSettings, prepare
from docproduct import model_folder
from docproduct.training import devices, loop

FLAGS = ["--batch_size=8", "--learning_rate=1e-3", "--dropout=0", "--head_dropout=0", "--precision=float32", "--seed=5"]
FLAGS += ["--max_tokens=20", "--checkpoint_steps=3", "--deterministic", "--epochs=3"]


@pytest.fixture(scope="module")
def small(corpus, vocab_file, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("workers") / "p")
    lengths = {"max_tokens": {"question": 20, "answer": 20}}
    prepare(PrepareSettings((corpus,), vocab_file, dev_share=0.2, seed=1, **lengths), folder)
    return folder


def start(prepared_dir, model_dir, *flags, **workers):
    script = ["train_embeddings.py", f"--prepared_dir={prepared_dir}", f"--model_dir={model_dir}"]
    return start_script(*script, *FLAGS, *flags, **workers)


def start_script(script, *flags, workers=None, index=0):
    environment = dict(os.environ)
    if workers:
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        )
        flags = ["--strategy=multi_worker", *flags]
    command = [sys.executable, script, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process, seconds=300):
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    names = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
    for listener in sockets:
        listener.close()
    return names


def losses(model_dir):
    with open(os.path.join(model_dir, model_folder.METRICS_FILE), encoding="utf-8") as file:
        return json.load(file)["losses"]


def num_steps(checkpoint):
    with safetensors.safe_open(checkpoint, "numpy") as file:
        return len(json.loads(file.metadata()["history"])["losses"])


def wait_for(path, process, seconds=200):
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        assert process.poll() is None, finish(process)[2][-2000:]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.long
def test_two_workers_give_the_losses_of_one_and_resume_after_a_kill(small, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    code, _, errors = finish(start(small, one))
    assert code == 0, errors[-2000:]
    expected = losses(one)
    assert len(expected) >= 20
    # The second worker is killed after the first checkpoint.
    workers = free_ports(2)
    pair = [start(small, two, workers=workers, index=i) for i in range(2)]
    wait_for(os.path.join(two, loop.CHECKPOINT_FILE), pair[0])
    pair[1].send_signal(signal.SIGKILL)
    code, _, errors = finish(pair[0])
    pair[1].communicate()
    assert code == 1
    assert "another worker has ended" in errors.splitlines()[-1], errors[-2000:]
    # All start again.
    workers = free_ports(2)
    pair = [start(small, two, "--resume", workers=workers, index=i) for i in range(2)]
    for process in pair:
        code, _, errors = finish(process)
        assert code == 0, errors[-2000:]
    np.testing.assert_allclose(losses(two), expected, atol=1e-5)


@pytest.mark.long
def test_two_workers_train_the_generator_with_the_losses_of_one(small, tmp_path):
    """The first worker also makes the vocabulary and the token folder."""
    sizes = [
        "--task=language_model",
        "--vocab_size=290",
        "--window=40",
        "--width=16",
        "--num_layers=1",
        "--num_heads=2",
    ]
    sizes += ["--num_heads=2", "--batch_size=8", "--learning_rate=1e-2", "--dropout=0", "--precision=float32"]
    sizes += ["--seed=5", "--epochs=2"]

    def begin(name, **workers):
        folders = [
            f"--prepared_dir={small}",
            f"--tokens_dir={tmp_path}/{name}_tokens",
            f"--model_dir={tmp_path}/{name}",
        ]
        return start_script("train_gpt2.py", *folders, *sizes, **workers)

    code, _, errors = finish(begin("one"))
    assert code == 0, errors[-2000:]
    workers = free_ports(2)
    for process in [begin("two", workers=workers, index=i) for i in range(2)]:
        code, _, errors = finish(process)
        assert code == 0, errors[-2000:]
    assert len(losses(tmp_path / "one")) >= 6
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-5)


def test_workers_need_their_addresses(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG is not set"):
        devices.make_strategy("multi_worker")
    with pytest.raises(ValueError, match="expected default, mirrored, multi_worker"):
        devices.make_strategy("many")


def tf_config(workers=("a:1", "b:2"), kind="worker", index=0, **changes):
    return {"cluster": {"worker": workers}, "task": {"type": kind, "index": index}} | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ([1], "is no JSON object"),
        ({}, "has no list of workers in its cluster"),
        (tf_config(cluster=None), "has no list of workers"),
        (tf_config(workers="a:1"), "has no list of workers"),
        (tf_config(workers=[]), "has no list of workers"),
        (tf_config(workers=["a"]), "has the address 'a', without a port"),
        (tf_config(workers=[3]), "has the address 3, without a port"),
        (tf_config(workers=["a:0"]), "has the address 'a:0', without a port of 1 to 65535"),
        (tf_config(workers=["a:65536"]), "has the address 'a:65536', without a port"),
        (tf_config(workers=["grpc://a:1"]), "has the address 'grpc://a:1', without a port.*or with more"),
        (tf_config(workers=[":1"]), "has the address ':1', without a port"),
        (tf_config(workers=["a:1", "b:1", "a:1"]), "has the address 'a:1' twice"),
        (tf_config(cluster={"worker": ["a:1"], "ps": ["b:1"]}), "has the jobs ps in its cluster"),
        (tf_config(cluster={"workers": ["a:1"]}), "has the jobs workers in its cluster"),
        (tf_config(cluster={"worker": ["a:1"], "chief": ["b:1", "c:1"]}), "has 2 chiefs; expected one at most"),
        (tf_config(cluster={"worker": ["a:1"], "chief": "b:1"}), "has no list of workers"),
        (tf_config(kind=["worker"]), r"has a task of the type \['worker'\]"),
        (tf_config(index=True), "has the task index True"),
        (tf_config(task=None), "has the task None"),
        (tf_config(task=[0]), r"has the task \[0\]"),
        (tf_config(kind="ps"), "has a task of the type 'ps'; its cluster has worker"),
        (tf_config(index=2), "has the task index 2; its cluster has 2 of the type worker, from 0"),
        (tf_config(index="0"), "has the task index '0'"),
        (tf_config(index=-1), "has the task index -1"),
    ],
)
def test_a_broken_tf_config_is_named(monkeypatch, caplog, content, message):
    monkeypatch.setenv("TF_CONFIG", content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"TF_CONFIG {message}.*Expected, in each worker's environment"):
        devices.make_strategy("multi_worker")
    with pytest.raises(ValueError, match="strategy is mirrored.*Unset TF_CONFIG"):
        devices.make_strategy("mirrored")
    assert devices.make_strategy("default").num_replicas_in_sync == 1
    assert caplog.messages[-1].startswith("TF_CONFIG is set, but with --strategy=default this process trains alone.")


@pytest.mark.parametrize(
    "content",
    [
        tf_config(index=1),
        tf_config(workers=["[::1]:65535", "node-2.local:1"]),
        tf_config(cluster={"chief": ["a:1"], "worker": ["a:2"]}, kind="chief"),
        tf_config(cluster={"chief": ["a:1"]}, kind="chief"),
        tf_config(rpc_layer="grpc"),
    ],
)
def test_valid_tf_configs_are_accepted(content):
    assert devices._wrong_tf_config(json.dumps(content)) is None


@pytest.mark.long
def test_a_run_killed_three_times_has_the_same_losses(small, tmp_path):
    """Kills with SIGKILL, so that the process cannot clean up."""
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    dropout = ["--dropout=0.1", "--head_dropout=0.1", "--checkpoint_steps=1"]
    assert finish(start(small, whole, *dropout))[0] == 0
    expected = losses(whole)
    checkpoint = os.path.join(cut, loop.CHECKPOINT_FILE)
    random = np.random.default_rng(0)
    for step in sorted(random.choice(np.arange(1, len(expected) - 1), 3, replace=False)):
        process = start(small, cut, "--resume", *dropout)
        wait_for(checkpoint, process)
        while num_steps(checkpoint) < step and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate()
    code, _, errors = finish(start(small, cut, "--resume", *dropout))
    assert code == 0, errors[-2000:]
    np.testing.assert_allclose(losses(cut), expected, atol=1e-5)
