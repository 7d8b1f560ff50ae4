"""Variants of triage side by side on dev: accuracy, macro-F1 and replies, over seeds, beside a linear SVM.

    python -m benchmarks.triage --prepared_dir=PREPARED --runs=encoder=M0:M1:M2 --runs=joint=J0:J1:J2

Reads the report.json and metrics.json that `train_gpt2.py --task=triage` wrote; --runs names a variant and the folders
of its seeds, all trained with the same --top_labels. The SVM sees TF-IDF of character 1- to 3-grams. Of each variant it
prints the mean and the range over the seeds, and the 95 % interval of the difference from the first variant: a paired
bootstrap over the dev texts, whose scores are means over the seeds. Ends with one line of JSON.
"""

import os
from typing import Any

import numpy as np
from absl import app, flags
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks import measuring
from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import TRIAGE
from docproduct.systems.triage.label_report import macro_f1
from docproduct.systems.triage.labels import LabelSettings, choose
from docproduct.training import cards

_RESAMPLES, _SEED = 2_000, 0
_SVM = "TF-IDF + linear SVM"
_REPLIES = ("reply_perplexity", "BLEU-2", "BLEU-4", "ROUGE-L")


def svm_predictions(prepared: PreparedFolder, top_labels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the right and the predicted labels of dev, of a linear SVM on TF-IDF of character n-grams.

    Args:
      prepared: the rows.
      top_labels: the labels that it learns, the most frequent; 0: all.
    """
    columns = ["text", "label"]
    (train, train_labels), (dev, dev_labels) = (
        [prepared.table(columns, split)[name].to_pylist() for name in columns] for split in (splits.TRAIN, splits.DEV)
    )
    labels = set(choose(train_labels, LabelSettings(top_labels)))
    known = [(text, label) for text, label in zip(train, train_labels, strict=True) if label in labels]
    model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True), LinearSVC())
    model.fit(*zip(*known, strict=True))
    labeled = [(text, label) for text, label in zip(dev, dev_labels, strict=True) if label in labels]
    texts, right = zip(*labeled, strict=True)
    return np.array(right), model.predict(texts)


def run_predictions(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the right and the predicted labels of dev, of a trained model.

    Raises:
      ValueError: its training has not ended, or had no labels.
    """
    report = files.read_json(os.path.join(folder, "report.json"))
    if report is None:
        raise ValueError(f"{folder} has no report.json. Expected a triage model with labels whose training has ended.")
    return np.array(report["right"]), np.array(report["predicted"])


def scores(right: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns accuracy and macro-F1, [2]."""
    _, numbers = np.unique(np.concatenate([right, predicted]), return_inverse=True)
    classes, given = np.split(numbers, 2)
    return np.array([np.mean(classes == given), macro_f1(given, classes)])


def differences(first: list[np.ndarray], other: list[np.ndarray], right: np.ndarray) -> np.ndarray:
    """Returns the 95 % intervals of the differences of accuracy and macro-F1, [2, 2]."""
    random = np.random.default_rng(_SEED)
    values = []
    for _ in range(_RESAMPLES):
        rows = random.integers(len(right), size=len(right))
        of_both = [np.mean([scores(right[rows], given[rows]) for given in part], axis=0) for part in (other, first)]
        values.append(of_both[0] - of_both[1])
    return np.quantile(values, (0.025, 0.975), axis=0).T


def _row(name: str, predictions: list[np.ndarray], right: np.ndarray, first: list[np.ndarray]) -> list[str]:
    values = np.array([scores(right, given) for given in predictions])  # [seeds, 2]
    cells = [
        f"{mean:.4f} ({low:.4f} to {high:.4f})"
        for mean, low, high in zip(values.mean(axis=0), values.min(axis=0), values.max(axis=0), strict=True)
    ]
    bounds = ["", ""]
    if predictions is not first:
        bounds = [f"{low:+.4f} to {high:+.4f}" for low, high in differences(first, predictions, right)]
    return [name, f"{len(predictions)}", cells[0], bounds[0], cells[1], bounds[1]]


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    values = flags.FLAGS
    right, given = svm_predictions(PreparedFolder(values.prepared_dir, TRIAGE), values.top_labels)
    runs: dict[str, list[str]] = {}
    for part in values.runs:
        name, _, folders = part.partition("=")
        runs[name] = folders.split(":")
    rows, replies, metrics = [], [], []
    predictions: dict[str, list[np.ndarray]] = {}
    for name, folders in runs.items():
        kept = [files.read_json(os.path.join(folder, "metrics.json"))["best"] for folder in folders]
        if "reply_perplexity" in kept[0]:
            means = {key: float(np.mean([entry[key] for entry in kept])) for key in _REPLIES if key in kept[0]}
            replies.append([name, *(f"{means[key]:.3f}" if key in means else "" for key in _REPLIES)])
            metrics += [measuring.metric(f"{name}_{key}", key, value) for key, value in means.items()]
        if "accuracy" in kept[0]:
            of_runs = [run_predictions(folder) for folder in folders]
            if any(not np.array_equal(truth, right) for truth, _ in of_runs):
                raise ValueError(
                    f"The runs of {name} were evaluated on other rows than those of {values.prepared_dir}. Give its "
                    "folder, and the --top_labels of their training."
                )
            predictions[name] = [predicted for _, predicted in of_runs]
    first = next(iter(predictions.values()), [given])
    for name, of_variant in [*predictions.items(), (_SVM, [given])]:
        rows.append(_row(name, of_variant, right, first))
        accuracy, f1 = np.mean([scores(right, predicted) for predicted in of_variant], axis=0)
        metrics += [_metric(f"{name}_accuracy", accuracy), _metric(f"{name}_macro_f1", f1)]
    header = ["variant", "seeds", "accuracy", "from the first", "macro-F1", "from the first"]
    print(f"{len(right)} labeled dev texts\n\n{cards.table(header, rows)}")
    if replies:
        print(f"\n{cards.table(['variant', *_REPLIES], replies)}")
    measuring.finish("triage", ["tensorflow", "keras"], metrics)


def _metric(name: str, value: float) -> dict[str, Any]:
    return measuring.metric(name.replace(" ", "_"), "share", float(value))


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Triage rows that the models were trained on.", required=True)
    flags.DEFINE_multi_string("runs", [], "A variant and its folders: NAME=FOLDER:FOLDER.")
    flags.DEFINE_integer("top_labels", 0, "The --top_labels that the models were trained with; 0: all labels.")
    app.run(main)
