# Copyright (c) mvp_mm authors. All rights reserved.
"""Defines the refusals of the server, each with its HTTP status."""
from __future__ import annotations

import math


class ServingError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status code.
        detail: One line for the client.
        reason: Label of the refusal in the metrics.
        retry_after: Seconds after which another try may succeed; None where it would not.
        allow: The HTTP method that the route takes, where another was used.
    """

    def __init__(self, status: int, detail: str, reason: str, retry_after: float | None = None,
                 allow: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.reason, self.allow = status, detail, reason, allow
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that go with it."""
        found = {'Retry-After': self.retry_after, 'Allow': self.allow}
        return {name: str(value) for name, value in found.items() if value is not None}


def busy(detail: str, retry_after: float) -> ServingError:
    """503: the server has enough to do."""
    return ServingError(503, detail, 'busy', retry_after)


def draining() -> ServingError:
    """503: the server is shutting down."""
    return ServingError(503, 'the server is shutting down', 'draining', 5)


def wrong_method(allow: str) -> ServingError:
    """405: the route takes another HTTP method."""
    return ServingError(405, f'this route takes {allow} requests alone', 'route', allow=allow)


def bad_question(detail: str) -> ServingError:
    """422: the question is not one that the model can be asked."""
    return ServingError(422, detail, 'question')
