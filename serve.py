"""Answers questions from an index: one with --question, else at a prompt.

    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --question="How is asthma treated?"

With --question it prints the hits and ends with one line of JSON. Without, it asks until the input ends (Ctrl-D).
"""

import json
import sys

from absl import app, flags, logging

from docproduct import training
from docproduct.answering import Answer, answer
from docproduct.index import Index
from docproduct.systems.retriever import TrainedRetriever

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
_INDEX_DIR = flags.DEFINE_string("index_dir", None, "The index that was built with it.", required=True)
_QUESTION = flags.DEFINE_string("question", None, "Answer this question and end.")
_K = flags.DEFINE_integer("k", 5, "Number of sources.")
_SEARCH_BY = flags.DEFINE_enum("search_by", "answer", ["answer", "question"], "What the question is compared with.")
_INDEX_DEVICE = flags.DEFINE_enum("index_device", "auto", ["auto", "cpu", "gpu"], "Where FAISS searches.")


def show(found: Answer) -> None:
    """Prints an answer for people, on standard error, so that standard output holds only JSON."""
    lines = [f"\n{found.answer}\n"]
    lines += [
        f"  {number}. ({hit.score:.3f}) {hit.question}  [{hit.source}]" for number, hit in enumerate(found.hits, 1)
    ]
    print("\n".join([*lines, f"\n{found.disclaimer}\n"]), file=sys.stderr)


def main(argv: list[str]) -> None:
    """Answers one question, or one after another."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; a question is given with --question.")
    logging.set_verbosity(logging.WARNING)
    training.set_up(seed=0, deterministic=False)
    try:
        retriever = TrainedRetriever.load(_MODEL_DIR.value)
        index = Index(_INDEX_DIR.value, retriever, _INDEX_DEVICE.value)
        if _QUESTION.value is not None:
            found = answer(_QUESTION.value, retriever, index, _K.value, _SEARCH_BY.value)
            show(found)
            print(json.dumps(found.as_json(), ensure_ascii=False))
            return
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    converse(retriever, index)


def converse(retriever: TrainedRetriever, index: Index) -> None:
    """Answers one line of standard input after another; a question that cannot be answered ends nothing."""
    print(f"{index.num_answers} answers. Ask a question; Ctrl-D ends.", file=sys.stderr)
    while True:
        print("Question: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        try:
            show(answer(line.strip(), retriever, index, _K.value, _SEARCH_BY.value))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
