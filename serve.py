"""Answers questions from an index: one with --question, else at a prompt.

    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --question="How is asthma treated?"

With --generator_dir, what docproduct.export wrote, an answer is written from the hits. With --question it prints all
and ends with one line of JSON. Without, it asks until the input ends (Ctrl-D), and shows answers on standard error.
"""

import functools
import json
import sys
from collections.abc import Callable

from absl import app, flags, logging

from data_pipeline.prepared import SIDES
from docproduct import training
from docproduct.answering import Answer, answer
from docproduct.index import Index
from docproduct.systems.generator import GenerationSettings, Writer
from docproduct.systems.retriever import TrainedRetriever


def show(found: Answer) -> None:
    """Prints an answer for people, on standard error, so that standard output holds only JSON."""
    lines = [f"\n{found.answer}\n"]
    if found.generated is not None:
        lines.append(f"Written by the generator, from the sources marked with *:\n\n{found.generated}\n")
    for number, hit in enumerate(found.hits, 1):
        mark = "*" if number <= found.num_contexts else " "
        lines.append(f"  {number}.{mark} (cosine {hit.score:.3f}) {hit.question}  [{hit.source}]")
    times = ", ".join(f"{step} {seconds * 1_000:.0f} ms" for step, seconds in found.seconds.items())
    print("\n".join([*lines, f"\n{times}\n\n{found.disclaimer}\n"]), file=sys.stderr)


def main(argv: list[str]) -> None:
    """Answers one question, or one after another."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; a question is given with --question.")
    logging.set_verbosity(logging.WARNING)
    training.set_up()
    values = flags.FLAGS
    try:
        retriever = TrainedRetriever.load(values.model_dir)
        index = Index(values.index_dir, retriever, values.index_device)
        writer = Writer.load(values.generator_dir) if values.generator_dir else None
        k = min(5, index.num_answers) if values.k is None else values.k
        ask = functools.partial(
            answer,
            retriever=retriever,
            index=index,
            k=k,
            search_by=values.search_by,
            writer=writer,
            settings=_settings(values, writer),
            threshold=values.threshold,
        )
        if values.question is not None:
            found = ask(values.question)
            show(found)
            print(json.dumps(found.as_json(), ensure_ascii=False))
            return
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    converse(ask, index.num_answers)


def _settings(values: flags.FlagValues, writer: Writer | None) -> GenerationSettings | None:
    """Returns how to write, None where the flags leave it to the generator."""
    names = ("max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed")
    given = {name: values[name].value for name in names if values[name].value is not None}
    if given and not writer:
        raise ValueError(f"--{next(iter(given))} says how answers are written. Give --generator_dir, too.")
    if not given or not writer.prompt:
        return None
    return GenerationSettings(**{"max_tokens": writer.prompt.answer_tokens, **given})


def converse(ask: Callable[[str], Answer], num_answers: int) -> None:
    """Answers one line of standard input after another; a question that cannot be answered ends nothing."""
    print(f"{num_answers} answers. Ask a question; Ctrl-D ends.", file=sys.stderr)
    while True:
        print("Question: ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
            if not line:
                return
            show(ask(line.strip()))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            return


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "The index that was built with it.", required=True)
    flags.DEFINE_string("question", None, "Answer this question and end.")
    flags.DEFINE_integer("k", None, "Number of sources; default: 5, or all answers of a smaller index.")
    flags.DEFINE_enum("search_by", "answer", SIDES, "What the question is compared with.")
    flags.DEFINE_float("threshold", None, "Cosine from which a hit is near enough; default: the index's own.")
    flags.DEFINE_string("generator_dir", None, "Generator that docproduct.export wrote; none: hits are quoted only.")
    flags.DEFINE_integer("max_tokens", None, "Longest answer it writes; default: as it was trained.")
    flags.DEFINE_float("temperature", None, "Of its draws; default: 0, always the likeliest token.")
    flags.DEFINE_integer("top_k", None, "Only the k likeliest tokens; default: all.")
    flags.DEFINE_float("top_p", None, "Only the likeliest tokens of this probability together; default: all.")
    flags.DEFINE_float("repetition_penalty", None, "Above 1, tokens that were met are less likely; default: 1.")
    flags.DEFINE_integer("seed", None, "Of its draws; default: 0.")
    flags.DEFINE_enum("index_device", "auto", ["auto", "cpu", "gpu"], "Where FAISS searches.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
