# Copyright (c) mvp_mm authors. All rights reserved.
"""Stands before all routes: limits bodies and rates, and shuts the page's routes it does not need.

The page's framework can fetch addresses and read paths that a request names. Here nothing of the
kind passes: what is not on the list of routes does not exist, and a file is one of the page's
temporary folder.
"""
from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mvp_mm.serving.errors import ServingError, busy, wrong_method
from mvp_mm.serving.limits import Limits
from mvp_mm.serving.rate import RateLimiter
from mvp_mm.serving.service import Service

OWN_ROUTES = ('/predict', '/health', '/ready', '/metrics', '/openapi.json')
_API = '/gradio_api'
_PAGE_GET = re.compile(
    r'/|/(?:config|theme\.css|robots\.txt|favicon\.ico|manifest\.json)/?|'
    r'/(?:assets|static|svelte|pwa_icon)(?:/.*)?|'
    rf'{_API}/(?:info|app_id|login_check|startup-events|upload_progress|queue/data|queue/status)/?|'
    rf'{_API}/heartbeat/[\w-]+')
_PAGE_POST = re.compile(rf'{_API}/(?:upload|queue/join|run/predict|cancel|reset)/?')
# Questions, and the choice of an example: both name files.
_NAMING_FILES = (f'{_API}/queue/join', f'{_API}/run/predict')
_FILE = f'{_API}/file='
_COUNTED = ('/predict', f'{_API}/upload', *_NAMING_FILES)
# Everything that the page shows comes from this server.
_POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
           "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
           "worker-src 'self' blob:; frame-ancestors 'self'; object-src 'none'; base-uri 'self'")


class Gate:
    """ASGI middleware around the whole server.

    Args:
        app: What it guards.
        service: Counts requests in flight.
        limits: Limits.
        folder: The page's temporary folder; None without a page.
        hosts: Names by which the server may be addressed, against DNS rebinding; None for any.
    """

    def __init__(self, app: ASGIApp, service: Service, limits: Limits, folder: Path | None,
                 hosts: frozenset[str] | None) -> None:
        self.app, self.service, self.limits = app, service, limits
        self.folder = None if folder is None else folder.resolve()
        self.hosts = hosts
        self.rate = RateLimiter(limits.requests_per_minute)
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or refuse it."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        if scope['type'] != 'http':
            await send(dict(type='websocket.close', code=1003))
            return
        ident = uuid.uuid4().hex
        scope.setdefault('state', {})['id'] = ident
        send = _with_headers(send, ident)
        try:
            self._check_route(scope)
            if scope['method'] == 'POST':
                await self._post(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        except ServingError as error:
            self.service.metrics.refusals.labels(error.reason).inc()
            if scope['path'] == '/predict':
                self.service.metrics.requests.labels('api', error.status).inc()
            # What is left of the body is not read: the connection ends here.
            headers = dict(error.headers, Connection='close')
            await JSONResponse(dict(detail=error.detail, id=ident), error.status, headers)(
                scope, receive, send)

    def _check_route(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope['path']
        if self.hosts is not None and _host(headers.get('host', '')) not in self.hosts:
            raise ServingError(421, 'the server is not known by this name', 'route')
        if path in OWN_ROUTES:
            if path == '/predict' and scope['method'] != 'POST':
                raise wrong_method('POST')
            # A page of another site must not put the server to work.
            if path == '/predict' and headers.get('sec-fetch-site') == 'cross-site':
                raise ServingError(403, 'requests of other sites\' pages are refused', 'route')
            return
        if self.folder is not None:
            if scope['method'] in ('GET', 'HEAD'):
                if _PAGE_GET.fullmatch(path):
                    return
                if path.startswith(_FILE) and self._is_own(path[len(_FILE):]):
                    return
            elif scope['method'] == 'POST' and _PAGE_POST.fullmatch(path):
                if headers.get('sec-fetch-site') == 'cross-site':
                    raise ServingError(403, 'requests of other sites\' pages are refused',
                                       'route')
                return
        raise ServingError(404, 'there is nothing here', 'route')

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body within the limits, then hand it on."""
        path = scope['path'].rstrip('/')
        if path in _COUNTED:
            client = scope.get('client')
            self.rate.take(client[0] if client else '')
        if path == f'{_API}/upload':
            self._check_room()
        # The page's questions are counted where they are asked; its other requests are short.
        with self.service.admit() if path == '/predict' else nullcontext():
            held = _Held(self)
            try:
                body = await self._read(scope, receive, held)
                if path in _NAMING_FILES:
                    self._check_files(body)
                await self.app(scope, _replay(body, receive), send)
            finally:
                held.release()

    async def _read(self, scope: Scope, receive: Receive, held: _Held) -> bytes:
        most = self.limits.max_request_bytes
        too_large = ServingError(413, f'the body has more than {most} bytes', 'size')
        length = Headers(scope=scope).get('content-length', '0')
        if not length.isdecimal() or int(length) > most:
            raise too_large
        chunks, size = [], 0
        deadline = asyncio.get_running_loop().time() + self.limits.upload_seconds
        while True:
            left = deadline - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except asyncio.TimeoutError as error:
                raise ServingError(408, f'the body took longer than {self.limits.upload_seconds:g} '
                                   's to arrive', 'timeout') from error
            if message['type'] == 'http.disconnect':
                raise ServingError(400, 'the client left', 'question')
            chunk = message.get('body', b'')
            size += len(chunk)
            if size > most:
                raise too_large
            held.add(len(chunk))
            chunks.append(chunk)
            if not message.get('more_body'):
                return b''.join(chunks)

    def _check_room(self) -> None:
        """Refuse uploads of the page while its folder is full."""
        assert self.folder is not None
        used = sum(file.stat().st_size for file in self.folder.rglob('*') if file.is_file())
        if used + self.limits.max_request_bytes > self.limits.max_temporary_bytes:
            raise busy('the folder of uploads is full', 60)

    def _check_files(self, body: bytes) -> None:
        """Refuse a question of the page that names a file which is not an upload."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ServingError(422, 'the body is not valid JSON', 'question') from error
        for part in _dicts(content):
            if 'path' in part and not self._is_own(part['path']):
                raise ServingError(403, 'a file must be an upload of this page', 'route')

    def _is_own(self, path: Any) -> bool:
        """Whether a path is a file of the page's folder."""
        if not isinstance(path, str) or '\0' in path or len(path) > 4096:
            return False
        try:
            resolved = Path(path).resolve()
            return (Path(path).is_absolute() and resolved.is_file()
                    and self.folder is not None and resolved.is_relative_to(self.folder))
        except (OSError, ValueError, RuntimeError):
            return False


class _Held:
    """The bytes of one body among those of all."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.size = gate, 0

    def add(self, size: int) -> None:
        """Count more of them.

        Raises:
            ServingError: 503 if all bodies together become too many.
        """
        if self.gate._bytes + size > self.gate.limits.max_queued_bytes:
            raise busy('the bodies of all requests in flight take too much memory', 2)
        self._count(size)

    def release(self) -> None:
        """Count them no more."""
        self._count(-self.size)

    def _count(self, size: int) -> None:
        self.size += size
        self.gate._bytes += size
        self.gate.service.metrics.queued_bytes.set(self.gate._bytes)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand on a body that was read, then what follows it."""
    messages = [dict(type='http.request', body=body, more_body=False)]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _with_headers(send: Send, ident: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message['type'] == 'http.response.start':
            headers = MutableHeaders(scope=message)
            headers['X-Request-ID'] = ident
            headers['X-Content-Type-Options'] = 'nosniff'
            headers['Referrer-Policy'] = 'same-origin'
            headers['Content-Security-Policy'] = _POLICY
        await send(message)

    return send_with_headers


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith('['):
        return header.partition(']')[0][1:].lower()
    return header.partition(':')[0].lower()


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts of a JSON value."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield item
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
