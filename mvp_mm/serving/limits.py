# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds the limits of the server: what one request, one client and all of them may take."""
from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

_MIB = 1 << 20


def _limit(default: float, what: str, least: float = 1) -> Any:
    return field(default=default, metadata=dict(what=what, least=least))


@dataclass(frozen=True)
class Limits:
    """Limits of the server; each is an argument of :func:`~mvp_mm.serving.launch`.

    Raises:
        ValueError: If a limit is not a number, or lower than makes sense.
    """

    max_request_bytes: int = _limit(
        16 * _MIB, 'largest body of a request and largest upload of the page, bytes (413)', 1024)
    max_image_pixels: int = _limit(25_000_000, 'most pixels of an image (413)')
    max_queue: int = _limit(
        256, 'most requests that may be in flight: uploading, waiting or being answered (503)')
    max_queued_bytes: int = _limit(
        512 * _MIB, 'most bytes that the bodies of all requests in flight may take (503)', 1024)
    requests_per_minute: int = _limit(
        600, 'requests per minute and client address (429); 0 for no limit', 0)
    max_batch: int = _limit(8, 'most images per forward pass')
    batch_wait_ms: float = _limit(
        5, 'milliseconds that a request waits for others to join its batch', 0)
    kept_images: int = _limit(
        4, 'encoded images kept for further questions about them; 0 to keep none', 0)
    upload_seconds: float = _limit(30, 'longest time that a body may take to arrive, s (408)', 0.1)
    queue_seconds: float = _limit(120, 'longest time that a request waits for the model, s (503)',
                                  0.1)
    drain_seconds: float = _limit(
        60, 'longest time that a shutdown waits for the requests taken, s', 0)
    max_temporary_bytes: int = _limit(
        1024 * _MIB, 'most bytes of the page\'s uploads and downloads on disk (503)', 1024)
    temporary_seconds: int = _limit(
        900, 'age at which an upload or download of the page is deleted, s')

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least = getattr(self, limit.name), limit.metadata['least']
            whole = isinstance(limit.default, int) and limit.type == 'int'
            number = isinstance(value, int if whole else (int, float))
            if not number or isinstance(value, bool) or not math.isfinite(value) or value < least:
                kind = 'a whole number' if whole else 'a number'
                raise ValueError(f'{limit.name} must be {kind} of at least {least}, got {value!r}')

    @classmethod
    def of(cls, **limits: Any) -> Limits:
        """Make limits of keyword arguments; None takes the default.

        Raises:
            ValueError: If a limit does not exist or has no usable value.
        """
        known = [limit.name for limit in fields(cls)]
        for name in limits:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f'did you mean {near[0]!r}? ' if near else ''
                raise ValueError(f'unknown limit {name!r}; {hint}choose from {", ".join(known)}')
        return cls(**{name: value for name, value in limits.items() if value is not None})
