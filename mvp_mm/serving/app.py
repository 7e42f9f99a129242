# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds the web application: ``POST /predict``, its companions and the page."""
from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mvp_mm.serving.answers import to_response
from mvp_mm.serving.errors import ServingError
from mvp_mm.serving.gate import Gate
from mvp_mm.serving.limits import Limits
from mvp_mm.serving.metrics import Metrics
from mvp_mm.serving.schema import PredictRequest, PredictResponse, Question, Refusal
from mvp_mm.serving.service import Answered, Service
from mvp_mm.serving.uploads import LISTS, read_request
from mvp_mm.version import __version__

logger = logging.getLogger('mvp_mm.serving')

_REFUSALS = {
    403: 'Sent by a page of another site.', 408: 'The body took too long to arrive.',
    413: 'The body or the image is too large.', 415: 'Not an image, or not a supported body.',
    421: 'The Host header names another server.', 422: 'The question cannot be asked.',
    429: 'Too many requests of this client; see Retry-After.', 500: 'The model failed.',
    503: 'Too many requests at once, or shutting down; see Retry-After.'}


def build_app(model: Any, limits: Limits | None = None, *, folder: Path | None = None,
              examples: Any = (), hosts: frozenset[str] | None = None) -> FastAPI:
    """Build the web application around a model.

    Args:
        model: An ``MVP``, or anything that is called and opened as one.
        limits: Limits; None for the defaults.
        folder: Empty folder for the page's uploads and downloads; None for no page.
        examples: Examples of the page (:mod:`~mvp_mm.serving.examples`).
        hosts: Host names that requests may name; None for any.

    Returns:
        The application; ``app.state.service`` is its queue.
    """
    limits = limits or Limits()
    metrics = Metrics(limits.max_batch)
    service = Service(model, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # Their pages of documentation load scripts from elsewhere.
    app = FastAPI(title='mvp_mm', version=__version__, lifespan=lifespan, docs_url=None,
                  redoc_url=None, summary='Boxes and masks from words and sentences')
    app.state.service = service
    _add_predict(app, service)
    _add_probes(app, service)
    if folder is not None:
        from mvp_mm.serving.page import mount_page
        mount_page(app, service, folder, examples)
    app.add_middleware(Gate, service=service, limits=limits, folder=folder, hosts=hosts)
    return app


def _add_predict(app: FastAPI, service: Service) -> None:
    async def predict(request: Request) -> Response:
        started, ident = time.monotonic(), request.state.id
        try:
            data, question = await read_request(request)
            answered = await _unless_left(request, service.answer(data, question))
            response = await asyncio.to_thread(
                lambda: to_response(answered, ident, time.monotonic() - started)
                .model_dump_json().encode())
        except ServingError as error:
            service.metrics.requests.labels('api', error.status).inc()
            service.metrics.refusals.labels(error.reason).inc()
            return JSONResponse(dict(detail=error.detail, id=ident), error.status, error.headers)
        except Exception:
            logger.exception('request %s failed', ident)
            service.metrics.requests.labels('api', 500).inc()
            service.metrics.refusals.labels('failure').inc()
            return JSONResponse(dict(detail='the server failed; its log says why', id=ident), 500)
        service.metrics.requests.labels('api', 200).inc()
        service.metrics.seconds.labels('api').observe(time.monotonic() - started)
        return Response(response, media_type='application/json')

    app.add_api_route(
        '/predict', predict, methods=['POST'], response_model=PredictResponse,
        summary='Answer a question about an image',
        responses={status: dict(model=Refusal, description=what)
                   for status, what in _REFUSALS.items()},
        openapi_extra=dict(requestBody=dict(required=True, content=_bodies())))


def _bodies() -> dict[str, Any]:
    """The two forms of a request, for the OpenAPI schema."""
    form = Question.model_json_schema()
    for name in LISTS:
        form['properties'][name]['description'] += ' Repeated fields, or names between commas.'
    image = dict(type='string', format='binary', description='The image file.')
    form = dict(form, title='PredictForm', required=['image'],
                properties=dict(image=image, **form['properties']))
    return {'application/json': dict(schema=PredictRequest.model_json_schema()),
            'multipart/form-data': dict(schema=form)}


async def _unless_left(request: Request, answering: Coroutine[Any, Any, Answered]) -> Answered:
    """Await an answer; give up when the client of a request that was read hangs up.

    Raises:
        ServingError: 499 if the client has left.
    """
    answer = asyncio.ensure_future(answering)

    async def left() -> None:
        while (await request.receive())['type'] != 'http.disconnect':
            pass

    leaving = asyncio.ensure_future(left())
    try:
        await asyncio.wait([answer, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ServingError(499, 'the client left', 'question')
        return answer.result()
    finally:
        for task in (answer, leaving):
            task.cancel()
        await asyncio.gather(answer, leaving, return_exceptions=True)


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get('/health', summary='Whether the process works; restart it where not')
    async def health() -> Response:
        good = service.alive
        return JSONResponse(dict(status='ok' if good else 'the queue has stopped'),
                            200 if good else 503)

    @app.get('/ready', summary='Whether a request would be taken now')
    async def ready() -> Response:
        status = ('stopped' if not service.alive else 'draining' if service.draining
                  else 'full' if service.full else 'ready')
        return JSONResponse(dict(status=status), 200 if status == 'ready' else 503,
                            {} if status == 'ready' else {'Retry-After': '5'})

    @app.get('/metrics', summary='Metrics in the format of Prometheus')
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
