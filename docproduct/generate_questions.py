"""Generates questions as data_pipeline.generate_questions does, with models of this machine.

    python -m docproduct.generate_questions --input=book.md --model_dir=MODEL --encoder_dir=ENCODER \
        --output_dir=questions
    python -m docproduct.generate_questions --input=book.md --base_url=http://HOST/v1 --model=NAME \
        --encoder_dir=ENCODER --output_dir=questions

With --model_dir, a language model of this machine writes: a folder, a GGUF file, an export, or an adapter. Without it,
the endpoint does. Questions whose right choices the passage does not say are dropped; with --encoder_dir, also those
by which the encoder does not find their passage, and near duplicates in other words. On the folder of a finished run,
of either command, only the files are made again, with these filters. Ends with one line of JSON: the report.
"""

import os

from absl import app
from absl import flags as absl_flags

from data_pipeline.generate_questions import Model, flags
from data_pipeline.generate_questions.filters import Filter
from data_pipeline.prompts.question_prompts import OPENINGS
from data_pipeline.rows import Passage
from docproduct import command, question_filters
from docproduct.generation.sampling import GenerationSettings
from docproduct.question_writer import LocalWriter
from docproduct.systems.generator.open import open_session
from docproduct.systems.retriever import TrainedRetriever


def _define_flags() -> None:
    flags.define()
    absl_flags.DEFINE_string("model_dir", None, "Language model of this machine that writes; default: the endpoint.")
    absl_flags.DEFINE_string("base_dir", None, "Of an adapter: the model that it was trained on.")
    absl_flags.DEFINE_bool("check_answers", True, "Drop questions whose right choices the passage does not say.")
    absl_flags.DEFINE_string(
        "encoder_dir", None, "Trained retriever, or a bare encoder folder, that looks for passages and duplicates."
    )
    absl_flags.DEFINE_integer(
        "max_rank", 10, "With encoder_dir: largest rank of a passage for its own question.", lower_bound=1
    )
    absl_flags.DEFINE_float(
        "max_cosine",
        0.95,
        "With encoder_dir: largest cosine similarity of two questions, with their right choices.",
        lower_bound=0.0,
    )


def _model() -> Model:
    """Returns the model that the flags name.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    values = absl_flags.FLAGS
    if not values.model_dir:
        return flags.endpoint_model()
    # JSON repeats its own marks, so that nothing may forbid repeated n-grams.
    sampling = GenerationSettings(
        values.answer_tokens, values.temperature or 0.0, seed=values.seed or 0, no_repeat_ngram_size=0, biased=False
    )
    name = os.path.basename(os.path.realpath(values.model_dir))
    described = {"model": name, "temperature": sampling.temperature, "seed": sampling.seed}

    def make() -> LocalWriter:
        session = open_session(values.model_dir, values.base_dir)
        return LocalWriter(session, sampling, values.concurrency, OPENINGS[values.kind])

    return Model(described, make)


def _filters(passages: dict[str, Passage]) -> list[Filter]:
    values, filters = absl_flags.FLAGS, flags.word_filters()
    if values.check_answers:
        filters.append(question_filters.unsupported())
    if values.encoder_dir:
        retriever = TrainedRetriever.load_for_many(values.encoder_dir)
        filters.append(question_filters.not_found(retriever, passages, values.max_rank))
        filters.append(question_filters.alike(retriever, values.max_cosine))
    return filters


def main(argv: list[str]) -> None:
    """Generates questions from the texts that the flags name."""
    command.begin(argv)
    with command.errors_on_one_line("run the same command again to go on."):
        passages = flags.read_passages()
        flags.run(passages, _model(), _filters(passages))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
