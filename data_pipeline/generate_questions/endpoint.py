"""Writes with a model behind an OpenAI-compatible endpoint: OpenAI's own, vLLM, llama.cpp, Ollama and others."""

import asyncio
import dataclasses
import email.utils
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.generate_questions.writers import RefusedError, Reply, StoppedError, TryAgainError
from data_pipeline.prompts.chat_template import Message
from data_pipeline.prompts.question_prompts import QuestionSettings, json_schema
from data_pipeline.settings import Settings, setting

MISSING = "The package openai is not installed. Run: pip install -e '.[generate]'"
NO_CONNECTION = "the endpoint cannot be reached"
_NO_KEY = "none"  # of an endpoint that asks for no key; the package refuses an empty one
_FRAME_TOKENS = 64  # of a chat template, more than published ones have around two messages
_GONE_FOR_GOOD = {
    401: "The key was refused. Check OPENAI_API_KEY, or give --api_key.",
    402: "There is no money left in the account.",
    403: "The key may not use this model. Give another --model, or another key.",
    404: "The endpoint has no such model or address. Check --model and --base_url, which most often ends with /v1.",
    405: "Check --base_url, which most often ends with /v1.",
}
_LATER = (408, 409, 425, 429)  # and all from 500 on
_MAY_BE_BILLED = (408, 504)  # a gateway gave up, the model perhaps not
_OUT_OF_MONEY = "insufficient_quota"  # code of a 429 that no waiting helps against
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")  # errors of the package's HTTP client


@dataclasses.dataclass(frozen=True)
class EndpointSettings(Settings):
    """The endpoint and the parameters of a call."""

    base_url: str | None = setting(
        None,
        "Address of the endpoint, such as http://127.0.0.1:8000/v1; default: OPENAI_BASE_URL, or OpenAI's.",
        changes_results=False,
    )
    model: str | None = setting(None, "Name of the model at the endpoint; default: OPENAI_MODEL.")
    temperature: float | None = setting(None, "Temperature; default: the endpoint's.", least=0)
    seed: int | None = setting(None, "Random seed, where the endpoint knows one; default: none.")
    answer_tokens: int = setting(1_500, "Maximum tokens of an answer.", least=16, changes_results=False)
    tokens_field: str = setting(
        "max_tokens",
        "What the request calls the maximum of tokens: OpenAI's newer models want the longer name.",
        choices=("max_tokens", "max_completion_tokens"),
        changes_results=False,
    )
    response_format: str = setting(
        "none",
        "What the endpoint enforces: nothing, any JSON object, or the schema of the answer. Not every endpoint can.",
        choices=("none", "json_object", "json_schema"),
    )
    timeout_seconds: float = setting(120.0, "Seconds that a call may take.", above=0, changes_results=False)

    def completed(self) -> "EndpointSettings":
        """Returns the settings with what the environment says.

        Raises:
          ValueError: there is no model.
        """
        model = self.model or os.environ.get("OPENAI_MODEL")
        if not model:
            raise ValueError("There is no model. Give --model, or set OPENAI_MODEL.")
        return dataclasses.replace(self, model=model, base_url=self.base_url or os.environ.get("OPENAI_BASE_URL"))


class Endpoint:
    """A `Writer` that asks an endpoint, once a call: `Asker` retries, so that it counts every call."""

    def __init__(self, settings: EndpointSettings, questions: QuestionSettings, api_key: str | None = None):
        """Makes a client; nothing is sent yet.

        Args:
          settings: what `EndpointSettings.completed` returned.
          questions: the questions that are asked for, which decide the schema.
          api_key: default: OPENAI_API_KEY; an endpoint of your own may need none.

        Raises:
          ValueError: the package openai is missing, or OpenAI's own endpoint would be asked without a key.
        """
        try:
            import openai  # here, as models of this machine need no such package
        except ImportError as error:
            raise ValueError(MISSING) from error
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every call
        self._openai = openai
        api_key = api_key or os.environ.get("OPENAI_API_KEY")
        if not api_key and not settings.base_url:
            raise ValueError("There is no key. Set OPENAI_API_KEY, or give the --base_url of an endpoint of your own.")
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=api_key or _NO_KEY,
            max_retries=0,
            timeout=None,  # `write` bounds the whole call
        )
        self._settings, self._parameters = settings, _parameters(settings, questions)

    def most_tokens(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Returns the largest numbers of tokens: no tokenizer makes more tokens than a text has bytes."""
        num_bytes = sum(len(message["content"].encode()) for message in messages)
        return num_bytes + _FRAME_TOKENS, self._settings.answer_tokens

    async def write(self, messages: Sequence[Message]) -> Reply:
        """Returns an answer; see `Writer`."""
        create = self._client.chat.completions.create(messages=list(messages), **self._parameters)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return _reply(await create)
        except TimeoutError:
            raise TryAgainError("no answer in time", is_billed=True) from None
        except self._openai.APIConnectionError as error:
            is_sent = type(error.__cause__).__name__ not in _NOT_SENT
            raise TryAgainError("the connection broke" if is_sent else NO_CONNECTION, is_billed=is_sent) from error
        except self._openai.APIStatusError as error:
            raise _of_status(error) from error
        except (ValueError, self._openai.OpenAIError) as error:
            raise TryAgainError("the response is not that of a chat", is_billed=True) from error

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.close()


def _parameters(settings: EndpointSettings, questions: QuestionSettings) -> dict[str, Any]:
    parameters = {"model": settings.model, settings.tokens_field: settings.answer_tokens}
    parameters |= {name: value for name in ("temperature", "seed") if (value := getattr(settings, name)) is not None}
    if settings.response_format == "json_object":
        parameters["response_format"] = {"type": "json_object"}
    elif settings.response_format == "json_schema":
        schema = {"name": "questions", "schema": json_schema(questions)}
        parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    return parameters


def _reply(completion: Any) -> Reply:
    """Reads a response, whose fields the package does not check.

    Raises:
      ValueError: it is not that of a chat.
    """
    try:
        choice = completion.choices[0]
        text, usage = choice.message.content or "", completion.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else None
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"The response is {completion!r}.") from error
    if not isinstance(text, str):
        raise ValueError(f"The content of the answer is {text!r}.")
    if tokens and not all(isinstance(number, int) and number >= 0 for number in tokens):
        tokens = None
    return Reply(text, choice.finish_reason != "length", tokens)


def _of_status(error: Any) -> Exception:
    """Returns what an HTTP status means for the run."""
    status, said = error.status_code, str(error.message)[:300]
    if remedy := _GONE_FOR_GOOD.get(status):
        return StoppedError(f"The endpoint answers {said!r}. {remedy}")
    if error.code == _OUT_OF_MONEY:
        return StoppedError(f"The endpoint answers {said!r}. There is no money left in the account.")
    if status in _LATER or status >= 500:
        wait = retry_after(error.response.headers, time.time())
        return TryAgainError(f"HTTP {status}", wait, status in _MAY_BE_BILLED)
    return RefusedError(f"HTTP {status}: {said}")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds to wait that a response names, as a number or as a date; None if it names none.

    Args:
      headers: those of the response, in lower case.
      now: seconds since 1970.
    """
    for name, unit in (("retry-after-ms", 1_000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
