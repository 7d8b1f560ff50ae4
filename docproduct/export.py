"""Exports a trained model, or one in a published layout, as a SavedModel for TensorFlow Serving or any TensorFlow.

    python -m docproduct.export --model_dir=model                        # a retriever: ids to vectors
    python -m docproduct.export --model_dir=model --index_dir=index      # also texts to vectors, and to answers
    python -m docproduct.export --model_dir=answers --precision=int8     # a generator
    python -m docproduct.export --model_dir=adapter --base_dir=model     # an adapter, added to its model
    python -m docproduct.export --model_dir=triage                       # ids or texts to probabilities, and replies
    python -m docproduct.export --model_dir=chooser                      # a multiple-choice model: ids to scores

The files of the folder tell the kind of its model. Each export is a new version; see saved_models.py. Signatures
that take texts use tensorflow-text's ops: a Python program that loads them imports tensorflow_text first. Ends with one
line of JSON: the version's folder and what it holds.
"""

import json
import os

from absl import app, flags

from data_pipeline.folders import files
from docproduct import command, model_folder
from docproduct.exports import saved_models
from docproduct.generation.export import PRECISIONS
from docproduct.generation.export import export as export_generator
from docproduct.systems import generator, retriever
from docproduct.systems.generator.adapter import KIND as ADAPTER
from docproduct.systems.generator.layouts import HUGGING_FACE_TYPES
from docproduct.systems.generator.layouts import KIND as GENERATOR
from docproduct.systems.multiple_choice.export import export as export_chooser
from docproduct.systems.multiple_choice.folder import KIND as CHOOSER
from docproduct.systems.multiple_choice.folder import TrainedChooser
from docproduct.systems.retriever.folder import KIND as RETRIEVER
from docproduct.systems.triage import TrainedTriage
from docproduct.systems.triage.export import export as export_triage
from docproduct.systems.triage.folder import KIND as TRIAGE

_CONFIG_FILE = "config.json"
# Flags for some kinds of models only.
_FLAGS = {
    RETRIEVER: ("strings", "index_dir"),
    GENERATOR: ("precision",),
    ADAPTER: ("precision", "base_dir"),
    TRIAGE: (),
    CHOOSER: ("precision",),
}
# Files of published layouts, in the order in which they decide.
_PUBLISHED = {"hparams.json": GENERATOR, "bert_config.json": RETRIEVER, "modules.json": RETRIEVER}
_PUBLISHED_TYPES = {"bert": RETRIEVER} | dict.fromkeys(HUGGING_FACE_TYPES, GENERATOR)


def kind_of(model_dir: str) -> str:
    """Returns the kind of model in a folder or a GGUF file: one of those in `_FLAGS`.

    Raises:
      ValueError: the folder holds something else, or a training that has not ended.
    """
    if os.path.isfile(model_dir):
        return GENERATOR
    if not os.path.isdir(model_dir):
        raise ValueError(
            f"There is no folder {model_dir}. Expected a model's folder; names on a hub are not looked up."
        )
    stored = files.read_json(os.path.join(model_dir, _CONFIG_FILE)) or {}
    if stored.get("kind") in _FLAGS:
        if "training" in stored and not os.path.isfile(os.path.join(model_dir, model_folder.METRICS_FILE)):
            raise ValueError(
                f"The training in {model_dir} has not ended. To finish it, give the training script its flags and "
                "--resume."
            )
        return stored["kind"]
    for name, kind in _PUBLISHED.items():
        if os.path.isfile(os.path.join(model_dir, name)):
            return kind
    model_type = stored.get("model_type", "bert" if "hidden_act" in stored else None)
    if model_type not in _PUBLISHED_TYPES:
        other = stored.get("kind") or model_type
        reason = f"its {_CONFIG_FILE} is of {other!r}" if stored else f"it has no {_CONFIG_FILE}"
        raise ValueError(
            f"{model_dir} holds no retriever and no generator: {reason}. Expected what train_embeddings.py or "
            "train_gpt2.py wrote, or a BERT, GPT-2, LLaMA, Mistral or Qwen in a published layout."
        )
    return _PUBLISHED_TYPES[model_type]


def export(
    model_dir: str, export_dir: str, strings: bool, index_dir: str | None, precision: str, base_dir: str | None = None
) -> str:
    """Exports the model of a folder; the arguments are the flags. Returns the version's folder."""
    kind = kind_of(model_dir)
    if kind == TRIAGE:
        return export_triage(TrainedTriage.load(model_dir), export_dir)
    if kind == CHOOSER:
        # What is chosen stays the same unless int8 is asked for: a threshold was fitted in float32.
        return export_chooser(
            TrainedChooser.load(model_dir), export_dir, "float32" if precision == "auto" else precision
        )
    if kind != RETRIEVER:
        trained = generator.load_model(model_dir, base_dir)
        if precision == "auto":
            precision = trained.fastest_precision
        return export_generator(trained, export_dir, precision)
    trained = retriever.TrainedRetriever.load(model_dir)
    if not index_dir:
        return retriever.export(trained, export_dir, strings)
    from docproduct.index import Index  # needs faiss, which a server without an index does not

    return retriever.export(trained, export_dir, strings, Index(index_dir, trained, device="cpu").searched_answers())


def main(argv: list[str]) -> None:
    """Exports what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        kind = kind_of(values.model_dir)
        for name in sorted({name for names in _FLAGS.values() for name in names} - set(_FLAGS[kind])):
            if values[name].present:
                owners = " or a ".join(other for other, names in _FLAGS.items() if name in names)
                raise ValueError(f"--{name} is for a {owners}; {values.model_dir} holds a {kind}. Leave it out.")
        if not values.export_dir and os.path.isfile(values.model_dir):
            raise ValueError(f"{values.model_dir} is a file. Say with --export_dir where its export belongs.")
        export_dir = values.export_dir or os.path.join(values.model_dir, "saved_model")
        asked = (values.strings, values.index_dir, values.precision, values.base_dir)
        version = export(values.model_dir, export_dir, *asked)
    config = files.read_json(os.path.join(saved_models.own_files(version), saved_models.CONFIG_FILE))
    details = {name: config[name] for name in ("precision", "signatures") if name in config}
    print(json.dumps({"version": version, "kind": kind, **details}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Trained model, or a published one; also a GGUF file.", required=True)
    flags.DEFINE_string("export_dir", None, "Folder of the versions; default: saved_model in model_dir.")
    flags.DEFINE_bool("strings", False, "Retriever: add signatures that take texts.")
    flags.DEFINE_string("index_dir", None, "Retriever: index that the signature retrieve searches.")
    flags.DEFINE_string("base_dir", None, "Adapter: the model that it was trained on.")
    flags.DEFINE_enum(
        "precision",
        "auto",
        ["auto", *PRECISIONS],
        "Generator or multiple-choice model; auto: int8 for a generator, if model and machine can, else float32.",
    )
    app.run(main)
