"""Retrieval quality after one epoch, beside sentence-transformers, over several seeds: one row for each recipe.

    python -m benchmarks.quality --prepared_dir=prepared --encoder_dir=ENCODER --beir_dirs=dev=beir/dev \
      --peer_python=PYTHON --work_dir=quality

Every run is a folder of --work_dir, RECIPE-SEED. Finished runs and scores are kept, and interrupted runs are resumed:
repeat the command until it is done; each run takes long. The peer trains with the same start, pairs and batch size
(sentence_transformers_peer.py). A recipe that mines uses the model of another recipe with the same seed. --beir_dirs
names the query sets to score (NAME=FOLDER). Each model is scored by its vectors alone and with BM25; how BM25 is joined
is tuned on the first set. Ends with one line of JSON: the mean over seeds.
"""

import dataclasses
import glob
import json
import os
import statistics
import subprocess
from typing import Any

from absl import app, flags, logging

from benchmarks import measuring
from data_pipeline import beir
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct import evaluate
from docproduct.layers.precision import dtype_policy
from docproduct.negatives import MiningSettings, mine
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.train import train
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings

_SCORES_FILE = "scores.json"
_PEER_NAME = "sentence-transformers"
_ZERO_SHOT = "zero-shot"
_METRICS = ("Success@1", "Success@10", "RR@10", "nDCG@10")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a run differs from the default one.

    Attributes:
      training: Fields of RetrieverTraining.
      settings: Fields of TrainingSettings.
      mined_from: Recipe whose model mines hard negatives; None: no hard negatives.
      mining: Settings of the mining.
      continues: Recipe whose model is the start of this training; None: the encoder.
    """

    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    mined_from: str | None = None
    mining: MiningSettings = MiningSettings()
    continues: str | None = None


RECIPES = {
    "default": Recipe(),
    "stored-words": Recipe({"reworded_share": 0.0}),
    "no-clusters": Recipe({"cluster_size": 1, "reworded_share": 0.5}),
    "random-batches": Recipe({"cluster_size": 1, "num_buckets": 1, "reworded_share": 0.5}),
    "clusters-of-8": Recipe({"cluster_size": 8}),
    "symmetric": Recipe({"loss": LossSettings("symmetric")}),
    "cosine-matrix": Recipe({"loss": LossSettings("cosine_matrix")}),
    "learned-scale": Recipe({"loss": LossSettings(learn_scale=True)}),
    "scale-50": Recipe({"loss": LossSettings(scale=50.0)}),
    "no-dropout": Recipe({"dropout": 0.0, "head_dropout": 0.0}),
    "no-heads": Recipe({"head": "none"}),
    "rate-1e-4": Recipe(settings={"learning_rate": 1e-4}),
    "two-epochs": Recipe(settings={"epochs": 2}),
    "matryoshka": Recipe({"loss": LossSettings(matryoshka_dims=(192, 96, 48))}),
    "frozen": Recipe({"freeze_bert": True}, {"epochs": 10, "learning_rate": 1e-3}),
    "batch-1024": Recipe({"chunk_size": 64}, {"batch_size": 1024, "learning_rate": 2e-4}),
    "hard-negatives": Recipe({"num_negatives": 1}, mined_from="default"),
    "hard-negatives-bm25": Recipe({"num_negatives": 1}, mined_from="default", mining=MiningSettings(by="both")),
    "hard-negatives-rate-1e-4": Recipe({"num_negatives": 1}, {"learning_rate": 1e-4}, mined_from="default"),
    "second-round": Recipe(continues="default"),
    "second-round-hard-negatives": Recipe({"num_negatives": 1}, mined_from="default", continues="default"),
}


def folder_of(work_dir: str, name: str, seed: int) -> str:
    """Returns the folder of a run."""
    return os.path.join(work_dir, f"{name}-{seed}")


def run(name: str, seed: int, values: flags.FlagValues) -> str:
    """Trains a recipe unless that is done already; returns the model folder."""
    folder = folder_of(values.work_dir, name, seed)
    if name == _PEER_NAME:
        if not os.path.isfile(os.path.join(folder, "modules.json")):
            folders = [f"--prepared_dir={values.prepared_dir}", f"--encoder_dir={values.encoder_dir}"]
            command = [
                values.peer_python,
                measuring.PEER_SCRIPT,
                "train",
                *folders,
                f"--model_dir={folder}",
                f"--seed={seed}",
                f"--max_tokens={values.max_tokens}",
            ]
            subprocess.run([*command, *(["--bfloat16"] if values.peer_bfloat16 else [])], check=True)
        return folder
    recipe = RECIPES[name]
    options = {"trained_share": 1.0} | recipe.training  # as the peer, whose weights are not drawn back to the start
    if recipe.mined_from:
        options["negatives_dir"] = os.path.join(values.work_dir, f"negatives-{name}-{seed}")
        if not os.path.isdir(options["negatives_dir"]):
            teacher = TrainedRetriever.load_for_many(run(recipe.mined_from, seed, values))
            prepared = PreparedFolder(values.prepared_dir)
            print(json.dumps(mine(teacher, prepared, options["negatives_dir"], recipe.mining)))
    start = run(recipe.continues, seed, values) if recipe.continues else values.encoder_dir
    if not recipe.continues:
        options["max_tokens"] = values.max_tokens
    settings = TrainingSettings(seed=seed, checkpoint_steps=25, **recipe.settings)
    config = RetrieverTraining(values.prepared_dir, start, settings=settings, **options)
    train(config, folder, resume=True)
    return folder


def scores_of(model_dir: str, folder: str, beir_dirs: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Returns {set: metrics} of a model; scores that are stored in its folder for these inputs are reused.

    The way to join BM25 is tuned on the first set.
    """
    path = os.path.join(folder, _SCORES_FILE)
    known = files.read_json(path) or {}
    hybrid, weight = "tune", 0.0
    for name, beir_dir in beir_dirs.items():
        split = beir.default_split(beir_dir)
        weights = sorted(glob.glob(os.path.join(glob.escape(model_dir), "*.safetensors")))
        inputs = [*weights, *(os.path.join(beir_dir, file) for file in ("corpus.jsonl", f"qrels/{split}.tsv"))]
        of_what = [dtype_policy("auto"), hybrid, weight, *map(files.sha256, inputs)]
        if known.get(name, {}).get("of_what") != of_what:
            data = beir.read(beir_dir, split)
            settings = evaluate.EvaluationSettings(hybrid=hybrid, bm25_weight=weight, precision="auto")
            scores = evaluate.retrieval(model_dir, data, settings)
            known[name] = scores | {"of_what": of_what}
            files.write_json(path, known)
        hybrid, weight = known[name]["hybrid"], known[name].get("bm25_weight", weight)
    return known


def main(argv: list[str]) -> None:
    """Runs the recipes that are missing, and prints the results of all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    logging.set_verbosity(logging.INFO)
    set_up()
    beir_dirs = dict(entry.split("=", 1) for entry in values.beir_dirs)
    names = [*([_PEER_NAME] if values.peer_python else []), *values.recipes]
    if unknown := set(values.recipes) - set(RECIPES):
        raise app.UsageError(f"Unknown recipes {sorted(unknown)}; expected {', '.join(RECIPES)}.")
    zero_shot = os.path.join(values.work_dir, _ZERO_SHOT)
    if not os.path.isdir(zero_shot):
        encoder = TrainedRetriever.load(values.encoder_dir, max_tokens=values.max_tokens)
        with files.whole_folder(zero_shot) as folder:
            encoder.save_config(folder, {})
            encoder.save_weights(folder)
    results = {_ZERO_SHOT: [scores_of(zero_shot, zero_shot, beir_dirs)]}
    for seed in map(int, values.seeds):
        for name in names:
            folder = folder_of(values.work_dir, name, seed)
            if values.show_only and not os.path.isfile(os.path.join(folder, _SCORES_FILE)):
                continue
            model_dir = folder if values.show_only else run(name, seed, values)
            results.setdefault(name, []).append(scores_of(model_dir, folder, beir_dirs))
    _show(results, list(beir_dirs))


def _show(results: dict[str, list[dict[str, dict[str, Any]]]], sets: list[str]) -> None:
    metrics = []
    for beir_set in sets:
        print(f"\n{beir_set}: mean (lowest to highest of the seeds)")
        print("| recipe | seeds | " + " | ".join(_METRICS) + " |\n|" + "---|" * (2 + len(_METRICS)))
        rows = {}
        for name, runs in results.items():
            rows[name] = [scores[beir_set].get("vectors_alone", scores[beir_set]) for scores in runs]
            rows[f"{name}, BM25"] = [scores[beir_set] for scores in runs]
        for name, runs in rows.items():
            cells = []
            for metric in _METRICS:
                values = [scores[metric] for scores in runs]
                spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.3f}{spread}")
            print(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
        means = {name: statistics.mean(scores["RR@10"] for scores in runs) for name, runs in rows.items()}
        for name in means:
            peers = {_PEER_NAME: means[_PEER_NAME]} if _PEER_NAME in means and name != _PEER_NAME else {}
            entry = measuring.metric(f"{beir_set}_rr10_{name}", "RR@10", means[name], peers, next(iter(peers), None))
            metrics.append(entry)
    measuring.finish("quality", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to start from.", required=True)
    flags.DEFINE_list("beir_dirs", None, "BEIR folders to score: NAME=FOLDER,...", required=True)
    flags.DEFINE_string("work_dir", None, "Folder for the runs.", required=True)
    flags.DEFINE_string("peer_python", None, "Interpreter that has sentence-transformers; default: no peer.")
    flags.DEFINE_integer("max_tokens", 256, "Longer texts are cut, in training and in scoring.")
    flags.DEFINE_bool("peer_bfloat16", False, "The peer trains in bfloat16, which is faster on some processors.")
    flags.DEFINE_list("recipes", ["default", "hard-negatives"], f"Recipes to run, of: {', '.join(RECIPES)}.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds.")
    flags.DEFINE_bool("show_only", False, "Only print the results of finished runs.")
    app.run(main)
