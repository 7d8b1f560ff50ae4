"""The model card of a triage model, README.md in its folder: scores, labels, replies, data, settings and limits."""

import dataclasses
import os
from typing import Any

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.dev import DevEvaluation, confusion
from docproduct.systems.triage.folder import TrainedTriage
from docproduct.systems.triage.label_report import label_report
from docproduct.training import cards, curves
from docproduct.training.loop import CURVE_FILE

CONFUSION_FILE = "confusion.png"
REPORT_FILE = "report.json"
_RATES = ("precision", "recall", "f1")
_SHOWN = 8  # replies


def write(
    model_dir: str,
    config: TriageTraining,
    triage: TrainedTriage,
    prepared: PreparedFolder,
    history: dict[str, Any],
    evaluation: DevEvaluation,
) -> None:
    """Writes the model card, report.json and the confusion matrix; `history` is the content of metrics.json."""
    name = os.path.basename(os.path.abspath(model_dir))
    sections = [
        f"# {name}\n\nA triage model made by docproduct, variant {config.variant}: a BERT encoder "
        f"{_does(config)}. **Research software: nothing it says or writes is medical advice. In an emergency, call "
        "for help.**",
        f"## Scores on dev\n\nEpoch 0 is the model that training started from.\n\n{cards.epochs(history)}\n\n"
        f"![learning curve]({CURVE_FILE})",
    ]
    if config.has_labels:
        sections.append(_label_section(model_dir, triage, evaluation))
    if evaluation.samples:
        scored = f"BLEU and ROUGE-L are those of {len(evaluation.samples)} dev texts, each with both replies."
        sections.append(f"## Draft replies\n\n{scored}\n\n{_samples(evaluation)}")
    sections += [
        f"## Data\n\n{cards.inputs(prepared)}",
        f"## Settings\n\n{cards.settings(_asked(config), {})}\n\nAll of them, versions and git commit are in "
        "`config.json`.",
        "## Limits\n\nIt knows the labels above and no others, and gives one of them to any text, even to one that "
        "fits none of them. Its probabilities were calibrated on texts like those of dev. Draft replies are likely "
        f"texts, not checked ones. Texts are cut at {triage.config.max_tokens} tokens.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _does(config: TriageTraining) -> str:
    labels, replies = "with a classifier of departments", "whose states a GPT-2 turns into a draft of the reply"
    return " and ".join([labels] * config.has_labels + [replies] * config.has_replies)


def _label_section(model_dir: str, triage: TrainedTriage, evaluation: DevEvaluation) -> str:
    """Writes report.json and the confusion matrix; returns the section."""
    familiarity, chosen = evaluation.familiarity(), triage.calibration
    content = label_report(evaluation.logits, evaluation.classes, familiarity, triage.labels, chosen)
    files.write_json(os.path.join(model_dir, REPORT_FILE), content)
    counts = confusion(evaluation.logits, evaluation.classes)
    curves.draw_confusion(counts, triage.labels, os.path.join(model_dir, CONFUSION_FILE))
    scores, sure = content["scores"], content["sure"]
    kept = [
        [name, f"{scores[name]:.4f}", f"{low:.4f} to {high:.4f}"] for name, (low, high) in content["intervals"].items()
    ]
    rows = [
        [f"{number}", cards.line(row["label"]), *(f"{row[name]:.3f}" for name in _RATES), f"{row['rows']:,}"]
        for number, row in enumerate(content["labels"], 1)
    ]
    accuracy = "" if sure["accuracy"] is None else f", {sure['accuracy']:.1%} of them rightly"
    return "\n\n".join(
        [
            f"## Labels\n\nThe kept weights on {content['rows']:,} labeled dev texts, with 95 % bootstrap intervals:",
            cards.table(["metric", "dev", "interval"], kept),
            cards.table(["", "label", *_RATES, "dev texts"], rows),
            f"![confusion matrix]({CONFUSION_FILE})",
            f"Expected calibration error {scores['ece']:.4f}; with a temperature that was fitted on other dev texts "
            f"{content['ece_calibrated']:.4f}. The stored temperature is {chosen.temperature:.3f}.",
            f"The model is sure of a label from a probability of {chosen.sure_from:.3f} on, if the text has a mean "
            f"cosine of {chosen.known_from:.3f} or more with its five nearest train texts: here of {sure['share']:.1%} "
            f"of the texts{accuracy}. Both thresholds were chosen on these texts. Otherwise, a person should be asked.",
        ]
    )


def _samples(evaluation: DevEvaluation) -> str:
    return "\n".join(
        f"* **{cards.line(s.text)}**\n  * data: {cards.line(s.reference)}\n  * written: {cards.line(s.reply)}"
        for s in evaluation.samples[:_SHOWN]
    )


def _asked(config: TriageTraining) -> dict[str, Any]:
    left_out = ("prepared_dir", "random_bert", "random_decoder")
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
