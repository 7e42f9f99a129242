# Copyright (c) mvp_mm authors. All rights reserved.
"""Joins concurrent questions into batches and puts them to the model, one batch at a time."""
from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mvp_mm.serving.errors import ServingError, bad_question, busy, draining
from mvp_mm.serving.limits import Limits
from mvp_mm.serving.metrics import Metrics
from mvp_mm.serving.schema import Question
from mvp_mm.serving.uploads import check_image, decode

logger = logging.getLogger('mvp_mm.serving')


@dataclass
class Answered:
    """An answer of the model, and how it came about.

    Attributes:
        answer: What the model returned.
        image: The image, upright, RGB.
        batch_size: Images in the forward pass.
        seconds: ``decode``, ``queue``, ``model``, in seconds.
    """

    answer: Any
    image: Image.Image
    batch_size: int
    seconds: dict[str, float]


@dataclass
class _Job:
    question: Question
    digest: bytes
    image: Image.Image
    done: asyncio.Future[tuple[Any, int, float, float]]
    queued: float = field(default_factory=time.monotonic)


class Service:
    """The model behind its queue; used from one event loop.

    Questions are answered in order of arrival. A batch is the oldest question with the ones that
    ask the same about other images; a question alone goes through the images kept encoded.

    Args:
        model: Called and opened as an ``MVP``.
        limits: Limits.
        metrics: What it counts in.
    """

    def __init__(self, model: Any, limits: Limits, metrics: Metrics) -> None:
        self.model, self.limits, self.metrics = model, limits, metrics
        self.draining = False
        self._in_flight = 0
        self._asked, self._busy_seconds = 0, 0.
        self._waiting: deque[_Job] = deque()
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='mvp_mm-model')
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._arrived = asyncio.Event()
        # Decoded images are large: as many as fill this batch and the next.
        self._decoding = asyncio.Semaphore(2 * self.limits.max_batch)
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Refuse what comes from now on, answer what was taken, and end."""
        self.draining = True
        deadline = time.monotonic() + self.limits.drain_seconds
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._kept.clear()

    @property
    def alive(self) -> bool:
        """Whether the queue is being worked on."""
        return self._worker is not None and not self._worker.done()

    @property
    def full(self) -> bool:
        """Whether a further request would be refused."""
        return self._in_flight >= self.limits.max_queue

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as in flight.

        Raises:
            ServingError: 503 if there are too many, or the server is shutting down.
        """
        if self.draining:
            raise draining()
        if self.full:
            raise busy(f'{self._in_flight} requests are in flight', self._expected_wait())
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    def _expected_wait(self) -> float:
        """Seconds until about half of what is in flight is answered."""
        per_image = self._busy_seconds / self._asked if self._asked else 1.
        return min(60., self._in_flight * per_image / 2)

    async def answer(self, data: bytes, question: Question) -> Answered:
        """Answer a question about an image file.

        Args:
            data: Content of the file.
            question: The question.

        Raises:
            ServingError: 413 or 415 for an unusable image, 422 for a question that the model
                refuses, 503 after too long a wait, 500 if the model failed.
        """
        check_image(data, self.limits.max_image_pixels)
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._decoding.acquire(), self.limits.queue_seconds)
        except asyncio.TimeoutError as error:
            raise self._too_late() from error
        try:
            image, digest = await asyncio.to_thread(_prepare, data)
            decoded = time.monotonic()
            loop = asyncio.get_running_loop()
            job = _Job(question, digest, image, loop.create_future())
            timer = loop.call_later(self.limits.queue_seconds, self._expire, job)
            self._waiting.append(job)
            self._arrived.set()
            try:
                answer, size, begun, seconds = await job.done
            finally:
                timer.cancel()
        finally:
            self._decoding.release()
        self.metrics.queue_seconds.observe(begun - started)
        return Answered(answer, image, size, dict(
            decode=decoded - started, queue=begun - decoded, model=seconds))

    def _too_late(self) -> ServingError:
        return ServingError(503, f'waited {self.limits.queue_seconds:g} s for the model', 'timeout',
                            self._expected_wait())

    def _expire(self, job: _Job) -> None:
        if job in self._waiting and not job.done.done():
            self._waiting.remove(job)
            job.done.set_exception(self._too_late())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            begun = time.monotonic()
            answers = await loop.run_in_executor(self._thread, self._ask, batch)
            seconds = time.monotonic() - begun
            self._asked += len(batch)
            self._busy_seconds += seconds
            self.metrics.batch_size.observe(len(batch))
            self.metrics.model_seconds.observe(seconds)
            for job, answer in zip(batch, answers, strict=True):
                if job.done.done():
                    continue
                if isinstance(answer, Exception):
                    job.done.set_exception(answer)
                else:
                    job.done.set_result((answer, len(batch), begun, seconds))

    async def _next_batch(self) -> list[_Job]:
        """Take the oldest question and those that can share its forward pass."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            deadline = time.monotonic() + self.limits.batch_wait_ms / 1000
            # Nobody is waited for where nobody else is on the way.
            while (len(self._matching()) < min(self.limits.max_batch, self._in_flight)
                   and (left := deadline - time.monotonic()) > 0):
                await asyncio.sleep(min(left, 0.002))
            batch = self._matching()[:self.limits.max_batch]
            for job in batch:
                self._waiting.remove(job)
            if batch:
                return batch

    def _matching(self) -> list[_Job]:
        """The waiting jobs that ask what the oldest asks; clients that have left are dropped."""
        for job in [job for job in self._waiting if job.done.done()]:
            self._waiting.remove(job)
        if not self._waiting:
            return []
        key = self._waiting[0].question.key()
        return [job for job in self._waiting if job.question.key() == key]

    def _ask(self, batch: list[_Job]) -> list[Any]:
        """Put a batch to the model; runs in the model's thread.

        Returns:
            An answer or an exception per job. A batch that fails is asked again one by one, so
            that a fault in one request stays there.
        """
        if len(batch) > 1:
            try:
                answers = self.model(
                    [job.image for job in batch], **batch[0].question.arguments(),
                    batch_size=len(batch), progress=False)
                if len(answers) != len(batch):
                    raise RuntimeError(f'{len(answers)} answers to {len(batch)} images')
                return list(answers)
            except Exception:
                # Memory may be what failed: the kept images are the first to go.
                self._kept.clear()
                logger.warning('a batch of %d failed; asking one by one', len(batch), exc_info=True)
        return [self._ask_one(job) for job in batch]

    def _ask_one(self, job: _Job) -> Any:
        try:
            return self._opened(job).ask(**job.question.arguments())
        except ValueError as error:
            return bad_question(str(error).partition('\n')[0][:500])
        except Exception:
            self._kept.clear()
            logger.exception('the model failed')
            return ServingError(500, 'the model failed; the server\'s log says why', 'failure')

    def _opened(self, job: _Job) -> Any:
        """The encoded image, from the kept ones where it is there."""
        opened = self._kept.pop(job.digest, None)
        if opened is None:
            opened = self.model.open(job.image)
        else:
            self.metrics.kept_image_hits.inc()
        if self.limits.kept_images:
            self._kept[job.digest] = opened
            while len(self._kept) > self.limits.kept_images:
                self._kept.popitem(last=False)
        return opened


def _prepare(data: bytes) -> tuple[Image.Image, bytes]:
    return decode(data), hashlib.sha256(data).digest()
