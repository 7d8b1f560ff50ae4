"""Answers questions from an index: one with --question, as a service with --port, else at a prompt.

    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --question="How is asthma treated?"
    python serve.py --model_dir=/tmp/model --index_dir=/tmp/index --port=8080      # http://127.0.0.1:8080/

With --generator_dir, the folder that docproduct.export wrote, an answer is written from the sources, at most as long as
the generator was trained for, or --max_tokens. With --question the script ends with one line of JSON. At the prompt it
asks until the input ends (Ctrl-D); answers go to standard error.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from absl import app, flags, logging

from data_pipeline.folders import files
from data_pipeline.settings import define_flags, flag_values
from docproduct.answering import Answer, Answerer, Folders, Query, terminal
from docproduct.chatting import ChatSettings
from docproduct.generation.sampling import GenerationSettings
from docproduct.training.devices import set_up
from docproduct.web.settings import Limits, RequestLimits, ServiceSettings

# Flags by what they describe; the settings' fields that have no flag, or one of another name.
_NOT_ASKED = ("question", "generate", "threshold")
_NOT_SAMPLED = ("num_samples",)
_NOT_SERVED = ("writing_batch", "writing_waiting")
_NOT_LIMITED = ("body_bytes", "body_seconds", "read_seconds")
_LIMITS = {"rate": "rate_limit", "hosts": "allowed_hosts"}
_REQUEST_LIMITS = {name: f"max_{name}" for name in ("question_chars", "texts", "text_chars", "choices", "pairs")}
# And those of ServiceSettings and Limits.
_OF_SERVICE = ("host", "trusted_proxies", "token_file", "write_token_file", "max_body_kib")


def main(argv: list[str]) -> None:
    """Answers one question, or one after another, or starts the service."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; a question is given with --question.")
    logging.set_verbosity(logging.WARNING)
    set_up()
    values = flags.FLAGS
    try:
        if values.port is not None:
            _serve(values)
            return
        if given := _present(values, _service_flags()):
            raise ValueError(f"--{given[0]} is for a service. Give --port, too.")
        for name in ("triage", "choices"):
            if values[f"{name}_dir"].value:
                raise ValueError(
                    f"--{name}_dir is for a service. Give --port, too, or run python -m docproduct.{name}."
                )
        answerer = Answerer.load(Folders(**flag_values(Folders)))
        options: dict[str, Any] = flag_values(Query, _NOT_ASKED) | {"sampling": _sampling(values, answerer)}
        if values.question is not None:
            answer = answerer.answer(Query(values.question, **options))
            terminal.show([answer])
            print(json.dumps(answer.as_json(), ensure_ascii=False))
            return
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted.")

    def ask(question: str) -> Iterator[Answer]:
        return answerer.stream(Query(question, **options))

    terminal.converse(ask, answerer.index.num_answers)


def _sampling(values: flags.FlagValues, answerer: Answerer) -> GenerationSettings | None:
    """Returns the settings that the flags give; None if they leave all to the generator."""
    sampling = flag_values(GenerationSettings, _NOT_SAMPLED)
    given = _present(values, sampling)
    if given and not answerer.generator:
        raise ValueError(f"--{given[0]} is for a generator. Give --generator_dir, too.")
    return answerer.sampling(**{name: sampling[name] for name in given}) if given else None


def _serve(values: flags.FlagValues) -> None:
    from docproduct.web.server import serve  # here, as answering in a terminal needs no web framework

    if values.question is not None:
        raise ValueError("--question answers one question, --port starts a service. Give one of them.")
    if given := _present(values, [*flag_values(Query, _NOT_ASKED), *flag_values(GenerationSettings, _NOT_SAMPLED)]):
        raise ValueError(f"--{given[0]} belongs to a single question; a service takes it from each request.")
    if values.log_questions:
        logging.set_verbosity(logging.INFO)
    settings = _service_settings(values)
    limits, needed = settings.limits, settings.request_limits.body_bytes
    if limits.body_bytes < needed:
        message = "In JSON, the longest question or text may take %d KiB; --max_body_kib=%d refuses some of them."
        logging.warning(message, needed // 1_024, values.max_body_kib)
    if "*" in limits.cors_origins:
        may = "that know the token may ask" if limits.token else "may ask, and read the answers"
        logging.warning("--cors_origins=*: pages of every web site %s, in the browser of anyone who visits them.", may)
    serve(Folders(**flag_values(Folders)), values.host, values.port, settings, values.trusted_proxies)


def _service_settings(values: flags.FlagValues) -> ServiceSettings:
    request_limits = RequestLimits(**flag_values(RequestLimits, names=_REQUEST_LIMITS))
    limits = Limits(
        token=_token(values.token_file, "DOCPRODUCT_TOKEN"),
        write_token=_token(values.write_token_file, "DOCPRODUCT_WRITE_TOKEN"),
        body_bytes=values.max_body_kib * 1_024
        if values.max_body_kib
        else max(Limits.body_bytes, request_limits.body_bytes),
        **flag_values(Limits, _NOT_LIMITED, _LIMITS),
    )
    parts = {"limits": limits, "request_limits": request_limits, "chat": ChatSettings(**flag_values(ChatSettings))}
    return ServiceSettings(**parts, **flag_values(ServiceSettings, _NOT_SERVED))


def _token(path: str | None, variable: str) -> str | None:
    """Returns a token that clients must send. It is no flag, as all users see the flags of a process."""
    if path is None:
        return os.environ.get(variable) or None
    return files.read_text(path).strip()


def _service_flags() -> list[str]:
    """Returns the names of the flags that are for a service."""
    limits = [_LIMITS.get(name, name) for name in flag_values(Limits, _NOT_LIMITED, _LIMITS)]
    settings = [*flag_values(ServiceSettings, _NOT_SERVED), *flag_values(ChatSettings)]
    return [*_OF_SERVICE, *limits, *_REQUEST_LIMITS.values(), *settings]


def _present(values: flags.FlagValues, names: Iterable[str]) -> list[str]:
    """Returns the names of the flags that are given."""
    return [name for name in names if values[name].present]


def _define_flags() -> None:
    define_flags(Folders)
    define_flags(Query, _NOT_ASKED)
    define_flags(GenerationSettings, _NOT_SAMPLED, max_tokens=None)
    define_flags(ServiceSettings, _NOT_SERVED)
    define_flags(ChatSettings)
    define_flags(Limits, _NOT_LIMITED, _LIMITS)
    define_flags(RequestLimits, names=_REQUEST_LIMITS)
    flags.DEFINE_string("question", None, "Answer this question and end.")
    flags.DEFINE_integer("port", None, "Start a service with a page on this port; 0: any free port.", 0, 65_535)
    flags.DEFINE_string("host", "127.0.0.1", "Where the service listens; 0.0.0.0: other machines reach it.")
    flags.DEFINE_list("trusted_proxies", [], "Addresses of proxies whose X-Forwarded-For names the client.")
    flags.DEFINE_string("token_file", None, "File with the token that clients must send; default: DOCPRODUCT_TOKEN.")
    flags.DEFINE_string(
        "write_token_file",
        None,
        "With --live: file with the token that clients must send to change pairs; default: DOCPRODUCT_WRITE_TOKEN.",
    )
    flags.DEFINE_integer(
        "max_body_kib",
        None,
        "Longest body of a request in KiB; default: 256, or the size of the longest allowed request.",
        1,
    )


if __name__ == "__main__":
    _define_flags()
    app.run(main)
