"""The routes that add, replace, remove and return pairs."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from data_pipeline import cleaning
from docproduct.index.live import LiveFolder, NewPair, pair_id_of
from docproduct.web import pair_schemas, schemas
from docproduct.web.responses import InvalidRequestError, request_errors, while_connected
from docproduct.web.service import Service

_Id = Annotated[str, Path(min_length=1, max_length=200, description="The id of a pair, as a hit or a change names it.")]


def add_pairs(app: FastAPI, service: Service, requests: pair_schemas.Requests) -> None:
    """Adds the routes under /v1/pairs."""
    refusals = schemas.responses(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504, 507)

    async def put(request: Request, bodies: list[pair_schemas.PairTexts], ids: list[str | None]) -> Response:
        live = service.live
        with request_errors():
            pairs = [_new_pair(live, body, name) for body, name in zip(bodies, ids, strict=True)]
        if len({pair.pair_id for pair in pairs}) < len(pairs):
            raise InvalidRequestError("Two pairs of the request have one id, or equal texts. Send each once.")
        statuses = await while_connected(request, service.changed(lambda: live.put(pairs)), service.deadline())
        names = [name or str(pair.pair_id) for pair, name in zip(pairs, ids, strict=True)]
        return _changed(live, dict(zip(names, statuses, strict=True)))

    @app.post("/v1/pairs", response_model=pair_schemas.ChangeResponse, responses=refusals)
    async def post_pairs(body: requests.post, request: Request) -> Response:
        """Adds a pair or several, or replaces those with their ids; all or none. Equal ones are left as they are."""
        bodies = getattr(body, "pairs", [body])
        return await put(request, bodies, [pair.id for pair in bodies])

    @app.put("/v1/pairs/{pair_id:path}", response_model=pair_schemas.ChangeResponse, responses=refusals)
    async def put_pair(pair_id: _Id, body: requests.put, request: Request) -> Response:
        """Adds a pair under an id, or replaces the one with this id; an id in the body must name the same pair."""
        if pair_id_of(body.model_extra.get("id", pair_id)) != pair_id_of(pair_id):
            raise InvalidRequestError("The body has another id than the path. Give the same, or none in the body.")
        return await put(request, [body], [pair_id])

    @app.delete("/v1/pairs/{pair_id:path}", response_model=pair_schemas.ChangeResponse, responses=refusals)
    async def delete_pair(pair_id: _Id, request: Request) -> Response:
        """Removes a pair."""
        live, number = service.live, pair_id_of(pair_id)
        was_there = await while_connected(request, service.changed(lambda: live.remove(number)), service.deadline())
        if not was_there:
            raise HTTPException(404, "There is no pair with this id.")
        return _changed(live, {pair_id: "removed"})

    @app.get("/v1/pairs/{pair_id:path}", response_model=pair_schemas.StoredPair, responses=refusals)
    async def get_pair(pair_id: _Id) -> Response:
        """Returns a pair."""
        texts = await asyncio.to_thread(service.live.texts, pair_id_of(pair_id))
        if texts is None:
            raise HTTPException(404, "There is no pair with this id.")
        return JSONResponse({"id": pair_id, **texts})


def _new_pair(live: LiveFolder, body: pair_schemas.PairTexts, name: str | None) -> NewPair:
    texts = live.cleaned(body.texts())
    return NewPair(cleaning.pair_id(texts["question"], texts["answer"]) if name is None else pair_id_of(name), texts)


def _changed(live: LiveFolder, statuses: dict[str, str]) -> Response:
    pairs = [{"id": name, "status": status} for name, status in statuses.items()]
    return JSONResponse({"pairs": pairs, "num_answers": live.index.num_answers})
