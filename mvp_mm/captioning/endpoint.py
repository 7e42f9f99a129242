# Copyright (c) mvp_mm authors. All rights reserved.
"""Asks captioners behind an OpenAI-compatible server: vLLM, SGLang, LMDeploy and others."""
from __future__ import annotations

import base64
import email.utils
import io
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mvp_mm.captioning.backends import (
    Answer,
    CaptionerError,
    CaptionSampling,
    ImageError,
    UnavailableError,
    load_image,
)

_MIME = {'JPEG': 'image/jpeg', 'PNG': 'image/png', 'WEBP': 'image/webp'}
_JPEG_QUALITY = 95
# Statuses that tell of the request's moment, not of the request; and all from 500.
_RETRIED = {408, 409, 425, 429}
# Statuses that no image will change.
_FATAL = {401, 402, 403, 404, 405}
_SHOWN = 300


@dataclass(frozen=True)
class Retries:
    """When a request is tried again.

    Attributes:
        attempts: Most tries of one image.
        first_wait: Wait after the first failure, seconds; it doubles each time, with chance in
            it. A ``Retry-After`` of the server counts where it is longer.
        longest_wait: Longest wait that is not the server's wish, seconds.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait(self, failures: int, asked: float) -> float:
        """Seconds to wait after so many failures in a row, of which the last asked for some."""
        longest = min(self.longest_wait, self.first_wait * 2 ** (failures - 1))
        return max(asked, random.uniform(longest / 2, longest))


class EndpointBackend:
    """Asks a server for one caption at a time, over several connections.

    Args:
        base_url: Address of the API, which usually ends in ``/v1``.
        model: The served model's name.
        prompt: What is asked about each image.
        sampling: How answers are drawn.
        concurrency: Most requests at a time.
        timeout: Longest wait for an answer, seconds.
        retries: When a request is tried again.
        api_key: Sent as a bearer token if given.
    """

    name = 'endpoint'
    batch_size = 1

    def __init__(self, base_url: str, model: str, prompt: str, sampling: CaptionSampling,
                 concurrency: int = 16, timeout: float = 300.0, retries: Retries | None = None,
                 api_key: str | None = None) -> None:
        self.model = model
        self.prompt = prompt
        self.sampling = sampling
        self.concurrency = concurrency
        self.settings: dict[str, Any] = {}
        self.retries = retries or Retries()
        self._url = f'{base_url.rstrip("/")}/chat/completions'
        self._stopped = threading.Event()
        headers = {'Authorization': f'Bearer {api_key}'} if api_key else {}
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx.Limits(max_connections=concurrency))

    def caption(self, images: Sequence[Path]) -> list[Answer | Exception]:
        """See :class:`CaptionBackend`."""
        answers: list[Answer | Exception] = []
        for image in images:
            try:
                answers.append(self._ask(image))
            except (ImageError, UnavailableError) as error:
                answers.append(error)
        return answers

    def stop(self) -> None:
        """See :class:`CaptionBackend`."""
        self._stopped.set()

    def _ask(self, image: Path) -> Answer:
        body = self._body(data_url(image, self.sampling.max_side))
        failure = ''
        for attempt in range(1, self.retries.attempts + 1):
            asked = 0.0
            try:
                response = self._client.post(self._url, json=body)
            except httpx.TransportError as error:
                failure = f'{type(error).__name__}: {error}'
            else:
                if response.is_success:
                    return _read_answer(response)
                failure = f'status {response.status_code}: {response.text[:_SHOWN]}'
                if response.status_code in _FATAL:
                    raise CaptionerError(f'{self._url} answered with {failure}')
                if response.status_code not in _RETRIED and response.status_code < 500:
                    raise ImageError(failure)
                asked = retry_after(response.headers.get('Retry-After'))
            if attempt < self.retries.attempts and self._stopped.wait(
                    self.retries.wait(attempt, asked)):
                raise UnavailableError('stopped')
        raise UnavailableError(f'{self.retries.attempts} attempts, the last: {failure}')

    def _body(self, url: str) -> dict[str, Any]:
        content = [{'type': 'image_url', 'image_url': {'url': url}},
                   {'type': 'text', 'text': self.prompt}]
        body = dict(
            model=self.model, messages=[{'role': 'user', 'content': content}],
            max_tokens=self.sampling.max_tokens, temperature=self.sampling.temperature,
            top_p=self.sampling.top_p)
        if self.sampling.seed is not None:
            body['seed'] = self.sampling.seed
        return body


def data_url(path: Path, max_side: int | None) -> str:
    """An image as a base64 data URL: the file's own bytes where any server reads them alike.

    Raises:
        ImageError: If the file is missing or no whole image.
    """
    image, kind = load_image(path, max_side)
    mime = _MIME.get(kind)
    if mime:
        data = path.read_bytes()
    else:
        mime, buffer = 'image/jpeg', io.BytesIO()
        image.save(buffer, 'JPEG', quality=_JPEG_QUALITY)
        data = buffer.getvalue()
    return f'data:{mime};base64,{base64.b64encode(data).decode()}'


def retry_after(value: str | None) -> float:
    """Seconds that a ``Retry-After`` header, a number or a date, asks for; 0 where it is none."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _read_answer(response: httpx.Response) -> Answer:
    try:
        choice = response.json()['choices'][0]
        text, finish = choice['message']['content'], choice.get('finish_reason')
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CaptionerError(f'{response.url} does not answer as a chat completion: '
                             f'{response.text[:_SHOWN]}') from error
    if finish == 'content_filter':
        raise ImageError('the server filtered its answer')
    return Answer((text or '').strip(), finish == 'length')
