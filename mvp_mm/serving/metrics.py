# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts what the server does, for Prometheus."""
from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

_SECONDS = (.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Metrics of one server, in a registry of its own.

    Args:
        max_batch: Most images per forward pass.
    """

    def __init__(self, max_batch: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        sizes = sorted({1, 2, 4, 8, 16, 32, max_batch})
        self.requests = Counter(
            'mvp_mm_requests_total', 'Questions by door (api, page) and HTTP status',
            ['door', 'status'], registry=self.registry)
        self.refusals = Counter(
            'mvp_mm_refusals_total', 'Questions that were not answered, by reason', ['reason'],
            registry=self.registry)
        self.seconds = Histogram(
            'mvp_mm_request_seconds', 'Seconds from question to answer, answered questions only',
            ['door'], buckets=_SECONDS, registry=self.registry)
        self.queue_seconds = Histogram(
            'mvp_mm_queue_seconds', 'Seconds that a question waited for the model',
            buckets=_SECONDS, registry=self.registry)
        self.model_seconds = Histogram(
            'mvp_mm_model_seconds', 'Seconds of one forward pass', buckets=_SECONDS,
            registry=self.registry)
        self.batch_size = Histogram(
            'mvp_mm_batch_size', 'Images per forward pass', buckets=sizes,
            registry=self.registry)
        self.kept_image_hits = Counter(
            'mvp_mm_kept_image_hits_total', 'Questions about an image that was already encoded',
            registry=self.registry)
        self.in_flight = Gauge(
            'mvp_mm_in_flight', 'Requests uploading, waiting or being answered',
            registry=self.registry)
        self.queued_bytes = Gauge(
            'mvp_mm_queued_bytes', 'Bytes of the bodies of all requests in flight',
            registry=self.registry)
        for reason in ('busy', 'draining', 'rate', 'size', 'image', 'question', 'route', 'timeout',
                       'failure'):
            self.refusals.labels(reason)
