# Copyright (c) mvp_mm authors. All rights reserved.
"""Limits the rate of requests per client with token buckets."""
from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from mvp_mm.serving.errors import ServingError

_MAX_CLIENTS = 10_000


class RateLimiter:
    """One token bucket per client, filled continuously; a full one holds a minute's requests.

    Args:
        per_minute: Requests per minute and client; 0 for no limit.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Count a request.

        Args:
            address: IP address of the client. An IPv6 client counts with its /64 network.

        Raises:
            ServingError: 429 if the client has made too many requests.
        """
        if not self.per_minute:
            return
        client, now = _network(address), self._clock()
        tokens, then = self._buckets.pop(client, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - then) * self.per_minute / 60)
        if tokens < 1:
            self._buckets[client] = tokens, now
            raise ServingError(
                429, f'more than {self.per_minute} requests per minute', 'rate',
                (1 - tokens) * 60 / self.per_minute)
        self._buckets[client] = tokens - 1, now
        # The longest unseen goes first: its bucket is the fullest.
        while len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if ip.version == 6 and not ip.ipv4_mapped:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip.ipv4_mapped or ip) if ip.version == 6 else str(ip)
