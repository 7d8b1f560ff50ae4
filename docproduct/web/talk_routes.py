"""OpenAI's routes for conversations and completions, with sources beside the choices."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from absl import logging
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from data_pipeline.tokenizers import CausalTokenizer
from docproduct.answering import DISCLAIMER
from docproduct.chatting import Reply
from docproduct.generation.scoring import Scores
from docproduct.web import schemas, talk_schemas
from docproduct.web.protection import error_body
from docproduct.web.responses import explained, last, while_connected
from docproduct.web.talking import Completion, Talking

_NO_GENERATOR = "This service has no generator. Start it with --model_dir, --index_dir and --generator_dir."
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def add_talk(app: FastAPI, talking: Talking, requests: talk_schemas.Requests) -> None:
    """Adds /v1/chat/completions and /v1/completions."""
    refusals = schemas.responses(400, 401, 404, 408, 413, 422, 429, 500, 503, 504)

    @app.post("/v1/chat/completions", response_model=talk_schemas.ChatResponse, responses=refusals)
    async def chat(body: requests.chat, request: Request) -> Response:
        """Replies to the last message of a conversation from the nearest stored answers."""
        _check_generator(talking)
        replies, deadline, frame = talking.replies(body), talking.deadline(), _frame("chatcmpl", body.model)
        if not body.stream:
            return JSONResponse(_chat_response(frame, await while_connected(request, last(replies), deadline)))
        # Until the stream begins, an error still has a status.
        first = await while_connected(request, anext(replies), deadline)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        sent = _chunks(frame, first, replies, deadline, with_usage)
        return StreamingResponse(sent, media_type="text/event-stream", headers=_STREAM_HEADERS)

    @app.post("/v1/completions", response_model=talk_schemas.CompletionResponse, responses=refusals)
    async def completions(body: requests.completion, request: Request) -> Response:
        """Goes on with texts, without a search; with `echo` and `logprobs`, tells how likely a text is."""
        _check_generator(talking)
        written = await while_connected(request, talking.completions(body), talking.deadline())
        tokenizer, choices = talking.tokenizer, []
        for index, completion in enumerate(written):
            choices.append({"index": index, **_choice(completion, tokenizer, bool(body.echo))})
        usage = _usage(sum(len(one.prompt_ids) for one in written), sum(one.num_tokens for one in written))
        told = {"object": "text_completion", "choices": choices, "usage": usage, "disclaimer": DISCLAIMER}
        return JSONResponse(_frame("cmpl", body.model) | told)


def _check_generator(talking: Talking) -> None:
    if not talking.is_possible:
        raise HTTPException(404, _NO_GENERATOR)


def _frame(kind: str, model: str | None) -> dict[str, Any]:
    return {"id": f"{kind}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model or talk_schemas.MODEL_ID}


def _usage(num_read: int, num_written: int) -> dict[str, int]:
    return {"prompt_tokens": num_read, "completion_tokens": num_written, "total_tokens": num_read + num_written}


def _reason(is_finished: bool) -> str:
    return "stop" if is_finished else "length"


def _chat_response(frame: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(reply.finished)}
    usage = _usage(reply.prompt_tokens, reply.completion_tokens)
    return frame | {"object": "chat.completion", "choices": [choice], "usage": usage, **reply.as_json()}


async def _chunks(
    frame: dict[str, Any], reply: Reply, replies: AsyncIterator[Reply], deadline: float, with_usage: bool
) -> AsyncIterator[bytes]:
    """Yields server-sent events as OpenAI does: the role, pieces of the text, the end with the sources, the usage.

    Advice in an emergency stands in the first event.
    """
    frame = frame | {"object": "chat.completion.chunk"} | ({"usage": None} if with_usage else {})

    def chunk(delta: dict[str, str], reason: str | None = None, **told: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(frame | {"choices": [choice]} | told)

    sent = ""
    try:
        async with contextlib.aclosing(replies):
            # A page shows the advice at once, apart from the text that it also begins.
            yield chunk({"role": "assistant", "content": ""}, emergency=reply.answer.emergency)
            while True:
                # A reply only grows, but for citations of no source, which are taken out of the whole.
                if reply.content.startswith(sent) and (piece := reply.content[len(sent) :]):
                    yield chunk({"content": piece})
                    sent = reply.content
                more = await asyncio.wait_for(anext(replies, None), deadline - time.perf_counter())
                if more is None:
                    break
                reply = more
        yield chunk({}, _reason(reply.finished), content=reply.content, **reply.as_json())
        if with_usage:
            usage = _usage(reply.prompt_tokens, reply.completion_tokens)
            yield _event(frame | {"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"
    except Exception as error:
        status, kind, message = explained(error)
        if status == 500:
            logging.exception("A stream failed.")
        yield _event(json.loads(error_body(kind, message)))


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _choice(completion: Completion, tokenizer: CausalTokenizer, with_prompt: bool) -> dict[str, Any]:
    """Returns a choice of /v1/completions, without its index."""
    text = (tokenizer.decode(completion.prompt_ids) if with_prompt else "") + completion.text
    logprobs = None
    if completion.scores:
        first = 0 if with_prompt else len(completion.prompt_ids)
        logprobs = _logprobs([*completion.prompt_ids, *completion.ids], completion.scores, tokenizer, first)
    return {"text": text, "logprobs": logprobs, "finish_reason": _reason(completion.finished)}


def _logprobs(ids: Sequence[int], scores: Scores, tokenizer: CausalTokenizer, first: int) -> dict[str, Any]:
    """Returns the log-probabilities of tokens from the place `first` on; those of the first token of all are null."""
    name_of = _Names(tokenizer)
    tokens = [name_of(i) for i in ids[first:]]
    values = [None, *scores.log_probs.tolist()][first:]
    top: list[dict[str, float] | None] = [None]
    for token, own, top_ids, top_values in zip(
        ids[1:], scores.log_probs.tolist(), scores.top_ids.tolist(), scores.top_log_probs.tolist(), strict=True
    ):
        likely: dict[str, float] = {}
        for i, value in zip([*top_ids, token], [*top_values, own], strict=True):
            likely.setdefault(name_of(i), value)  # of tokens with one name, the likeliest
        top.append(likely)
    offsets, place = [], 0
    for name in tokens:
        offsets.append(place)
        place += len(name)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": top[first:], "text_offset": offsets}


class _Names:
    """The text of single tokens: of an added token its name, of others with the blank before a word."""

    def __init__(self, tokenizer: CausalTokenizer):
        self._tokenizer = tokenizer
        self._added = {number: name for name, number in tokenizer.added.items()}
        self._before = tokenizer.encode(["a"])[0]  # some decoders take blanks off the beginning of a text
        self._skip = len(tokenizer.decode(self._before))

    def __call__(self, token: int) -> str:
        return self._added.get(token) or self._tokenizer.decode([*self._before, token])[self._skip :]
