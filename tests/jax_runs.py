"""Trainings with JAX on four virtual devices, in a process of their own: Keras has one backend a process.

    python -m tests.jax_runs FOLDER WINDOWS

FOLDER has dialogues and base models, WINDOWS is a token folder; test_jax_engine.py makes them, and starts this.
"""

import contextlib
import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np

from docproduct.layers.lora import LoraSettings
from docproduct.systems.chat import rows
from docproduct.systems.chat.train import train
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.train import train as train_on_windows
from docproduct.training import jax_step, loop, mesh
from tests import commands
from tests.test_jax_engine import IDS, UNFIT, config_of, windows_config


@contextlib.contextmanager
def patched(module, name, value):
    before = getattr(module, name)
    setattr(module, name, value)
    yield
    setattr(module, name, before)


def until_the_fourth_step(several, batch_size, seed, epoch, skip, made=rows.epoch_batches):
    """Yields three batches: the run is killed after a checkpoint, and after a step more."""
    for number, batch in enumerate(made(several, batch_size, seed, epoch, skip)):
        if number == 3:
            raise KeyboardInterrupt
        yield batch


def killed(config, path):
    with patched(rows, "epoch_batches", until_the_fourth_step), contextlib.suppress(KeyboardInterrupt):
        train(config, path)


def in_parts(config, path):
    """Trains; returns the history, and the shapes of each variable: whole, and its parts on the devices."""
    parts, made = {}, jax_step.step_function

    def seen(task, optimizer, clip_norm):
        step = made(task, optimizer, clip_norm)

        def stepping(batch):
            loss = step(batch)
            for variable in [*task.trainable_variables, *optimizer.variables]:
                shards = [list(shard.data.shape) for shard in variable.value.addressable_shards]
                parts[variable.path] = [list(variable.shape), shards]
            return loss

        return stepping

    with patched(jax_step, "step_function", seen):
        return train(config, path), parts


def logits(path):
    decoder = TrainedGenerator.load(path).decoder
    return np.asarray(decoder.logits(decoder(np.array(IDS)))).tolist()


def main(folder, windows_dir):
    # Equal functions of several trainings are compiled once.
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    own = ["--engine=jax", f"--prepared_dir={folder / 'prepared'}", f"--base_dir={folder / 'base'}", "--task=chat"]
    errors = {}
    for name, (more, _) in UNFIT.items():
        errors[name] = commands.run("train_gpt2.py", *own, f"--model_dir={folder / 'never'}", *more).stderr
    results = {"errors": errors, "never": (folder / "never").exists()}

    flags = ["--window=64", "--epochs=1", "--batch_size=4", "--learning_rate=5e-3", "--seed=5", "--precision=float32"]
    flags += ["--dropout=0"]
    run = commands.run("train_gpt2.py", *own, *flags, "--mesh=data=2", f"--model_dir={folder / 'data'}")
    results["script"] = run.returncode, run.stdout, run.stderr
    results["data=2"] = json.loads((folder / "data" / loop.METRICS_FILE).read_text())

    config = config_of(folder)
    mesh.use("data=1")
    results["data=1"] = train(config, str(folder / "one"))
    mesh.use("model=2")
    results["model=2"] = train(dataclasses.replace(config, chunk_size=2, recompute=True), str(folder / "model"))
    mesh.use("data=2,model=2")
    killed(config, str(folder / "killed"))
    results["data=2,model=2"], results["parts"] = in_parts(config, str(folder / "both"))
    results["logits"] = logits(str(folder / "both"))

    adapter = dataclasses.replace(config, lora=LoraSettings(4), dropout=None, recompute=True, chunk_size=2)
    results["adapter"] = train(adapter, str(folder / "adapter"))
    killed(adapter, str(folder / "resumed"))
    results["resumed"] = train(dataclasses.replace(adapter, recompute=False), str(folder / "resumed"), resume=True)
    results["windows"] = train_on_windows(windows_config(folder, windows_dir), str(folder / "windows_of_jax"))
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
