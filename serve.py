"""Answers questions from an index: one with --question, as a service with --port, else at a prompt.

    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --question="How is asthma treated?"
    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --port=8080      # http://127.0.0.1:8080/

With --generator_dir, what docproduct.export wrote, an answer is written from the hits. With --question it prints all
and ends with one line of JSON. At the prompt it asks until the input ends (Ctrl-D); answers are on standard error.
"""

import functools
import json
import os
import sys

from absl import app, flags, logging

from data_pipeline.folders import files
from data_pipeline.rows import SIDES
from docproduct.answering import terminal
from docproduct.answering.answerer import answer, stream
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

_WRITING = ("max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "no_repeat_ngram_size", "seed")
_SERVING = ("host", "allowed_hosts", "trusted_proxies", "token_file", "rate_limit", "max_batch", "max_wait_ms")
_SERVING += ("max_waiting", "timeout", "log_questions", "cors_origins")
_SERVING += ("max_question_chars", "max_texts", "max_text_chars", "max_body_kib")
_ASKING = ("k", "search_by", *_WRITING)  # what each request of a service says for itself


def main(argv: list[str]) -> None:
    """Answers one question, or one after another, or whoever asks the service."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; a question is given with --question.")
    logging.set_verbosity(logging.WARNING)
    set_up()
    values = flags.FLAGS
    try:
        if values.port is not None:
            _serve(values)
            return
        if given := [name for name in _SERVING if values[name].present]:
            raise ValueError(f"--{given[0]} is for a service. Give --port, too.")
        retriever = TrainedRetriever.load(values.model_dir)
        index = Index(values.index_dir, retriever, values.index_device)
        writer = GenerationSession.load(values.generator_dir) if values.generator_dir else None
        how = {
            "retriever": retriever,
            "index": index,
            "k": min(5, index.num_answers) if values.k is None else values.k,
            "search_by": values.search_by,
            "writer": writer,
            "settings": _settings(values, writer),
            "threshold": values.threshold,
        }
        if values.question is not None:
            found = answer(values.question, **how)
            terminal.show(iter([found]))
            print(json.dumps(found.as_json(), ensure_ascii=False))
            return
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted.")
    terminal.converse(functools.partial(stream, **how), index.num_answers)


def _settings(values: flags.FlagValues, writer: GenerationSession | None) -> GenerationSettings | None:
    """Returns how to write, None where the flags leave it to the generator."""
    given = {name: values[name].value for name in _WRITING if values[name].value is not None}
    if given and not writer:
        raise ValueError(f"--{next(iter(given))} says how answers are written. Give --generator_dir, too.")
    if not given or not writer.prompt:
        return None
    return GenerationSettings(**{"max_tokens": writer.prompt.answer_tokens, **given})


def _serve(values: flags.FlagValues) -> None:
    # Here, as answering in the terminal needs none of it.
    from docproduct.web.engine import Folders
    from docproduct.web.protection import Limits
    from docproduct.web.schemas import RequestLimits
    from docproduct.web.server import serve
    from docproduct.web.service import ServiceSettings

    if values.question is not None:
        raise ValueError("--question answers one question, --port starts a service. Give one of them.")
    if given := [name for name in _ASKING if values[name].present]:
        raise ValueError(f"--{given[0]} belongs to a single question; a service is told it with each request.")
    if values.log_questions:
        logging.set_verbosity(logging.INFO)
    request_limits = RequestLimits(values.max_question_chars, values.max_texts, values.max_text_chars)
    needed = request_limits.body_bytes
    limits = Limits(
        _token(values.token_file),
        values.rate_limit,
        values.max_body_kib * 1_024 if values.max_body_kib else max(Limits.body_bytes, needed),
        hosts=tuple(values.allowed_hosts),
        cors_origins=tuple(values.cors_origins),
    )
    settings = ServiceSettings(
        max_batch=values.max_batch,
        max_wait=values.max_wait_ms / 1_000,
        max_waiting=values.max_waiting,
        timeout=values.timeout,
        log_questions=values.log_questions,
        limits=limits,
        request_limits=request_limits,
    )
    if limits.body_bytes < needed:
        message = "In JSON, the longest question or text may take %d KiB; --max_body_kib=%d refuses some of them."
        logging.warning(message, needed // 1_024, values.max_body_kib)
    if "*" in limits.cors_origins:
        may = "that know the token may ask" if limits.token else "may ask, and read the answers"
        logging.warning("--cors_origins=*: pages of every web site %s, in the browser of anyone who visits them.", may)
    names = ("model_dir", "index_dir", "generator_dir", "index_device", "threshold")
    serve(
        Folders(**{name: values[name].value for name in names}),
        values.host,
        values.port,
        settings,
        values.trusted_proxies,
    )


def _token(path: str | None) -> str | None:
    """Returns the token that clients must send; it is no flag, as a process's flags are seen by all users."""
    if path is None:
        return os.environ.get("DOCPRODUCT_TOKEN") or None
    return files.read_text(path).strip()


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "The index that was built with it.", required=True)
    flags.DEFINE_string("question", None, "Answer this question and end.")
    flags.DEFINE_integer("k", None, "Number of sources; default: 5, or all answers of a smaller index.")
    flags.DEFINE_enum("search_by", "answer", SIDES, "What the question is compared with.")
    flags.DEFINE_float("threshold", None, "Cosine from which an answer is near enough; default: the index's.")
    flags.DEFINE_string("generator_dir", None, "Generator that docproduct.export wrote; none: hits are quoted only.")
    flags.DEFINE_integer("max_tokens", None, "Longest answer it writes; default: as it was trained.")
    flags.DEFINE_float("temperature", None, "Of its draws; default: 0, always the likeliest token.")
    flags.DEFINE_integer("top_k", None, "Only the k likeliest tokens; default: all.")
    flags.DEFINE_float("top_p", None, "Only the likeliest tokens of this probability together; default: all.")
    flags.DEFINE_float("repetition_penalty", None, "Above 1, tokens that were met are less likely; default: 1.")
    flags.DEFINE_integer("no_repeat_ngram_size", None, "No run of so many tokens twice; 0: any; default: 8.")
    flags.DEFINE_integer("seed", None, "Of its draws; default: 0.")
    flags.DEFINE_enum("index_device", "auto", ["auto", "cpu", "gpu"], "Where FAISS searches.")
    flags.DEFINE_integer("port", None, "Start a service with a page here; 0: any free port.", 0, 65_535)
    flags.DEFINE_string("host", "127.0.0.1", "Where it listens; 0.0.0.0: other machines reach it.")
    flags.DEFINE_list("allowed_hosts", [], "Names it has, beside localhost; default: on 127.0.0.1 none, else any.")
    flags.DEFINE_list("trusted_proxies", [], "Addresses of proxies whose X-Forwarded-For names the client.")
    flags.DEFINE_string("token_file", None, "File with the token that clients must send; or DOCPRODUCT_TOKEN.")
    flags.DEFINE_string("rate_limit", None, "Requests of one address, such as 60/minute; default: any number.")
    flags.DEFINE_list("cors_origins", [], "Other sites whose pages may call it: https://a.example; *: every site.")
    flags.DEFINE_integer("max_question_chars", 2_000, "Longest question, in characters.", 1)
    flags.DEFINE_integer("max_texts", 256, "Texts that are encoded in one request, at most.", 1)
    flags.DEFINE_integer("max_text_chars", 20_000, "Longest of these texts, in characters.", 1)
    body_help = "Longest body in KiB; default: 256, or what the longest question or text may take."
    flags.DEFINE_integer("max_body_kib", None, body_help, 1)
    flags.DEFINE_integer("max_batch", 32, "Questions that are answered together.", 1)
    flags.DEFINE_float("max_wait_ms", 2.0, "Longest wait of a question for others, in milliseconds.", 0.0, 1_000.0)
    flags.DEFINE_integer("max_waiting", 128, "Questions that may wait; more are answered with 503.", 1)
    flags.DEFINE_float("timeout", 60.0, "Seconds until a request is given up.", 0.1)
    flags.DEFINE_bool("log_questions", False, "Log requests with their questions; else only warnings.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
