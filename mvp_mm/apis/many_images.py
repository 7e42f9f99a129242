# Copyright (c) mvp_mm authors. All rights reserved.
"""Works on many images in batches and worker processes, and gives results in the images' order."""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice, tee
from typing import Any, TypeVar

import cv2
import torch
from torch import nn

from mvp_mm.apis.answer import Answer
from mvp_mm.apis.perceiver import PreparedImage
from mvp_mm.apis.sources import ImageSource
from mvp_mm.utils.cores import usable_cores, wanted_threads
from mvp_mm.utils.processes import FORKS, can_fork, map_in_processes

# Larger models fill the cores with one image, and their activations the memory with several.
SMALL = 100_000_000
# A small model's time goes into calling its layers, which a batch shares; with more images the
# layers themselves take the time. Large images fill the memory, and the layers have work enough.
BATCH = 8
MOST_PIXELS = 2_500_000
# Starting a process takes about as long as a batch.
_FEWEST_PER_WORKER = 8
# Pictures drawn at a time beside the model: each takes several times the memory of its image.
_MOST_DRAWING = 4

Item = TypeVar('Item')
Result = TypeVar('Result')
ReadImage = tuple[ImageSource, PreparedImage]


@dataclass(frozen=True)
class Plan:
    """How many images are worked on together.

    Attributes:
        batch_size: Images of a forward pass, or sentences where there are several.
        most_pixels: A batch has no further image beyond so many; None for no such limit.
        workers: Processes that work on a batch each; with one worker it is this process.
    """

    batch_size: int
    most_pixels: int | None
    workers: int


def make_plan(model: nn.Module, batch_size: int | None, workers: int | None,
              images: int | None, questions: int = 1) -> Plan:
    """Choose how many images a model works on together.

    A small model leaves a CPU idle: most of its steps are too short to be shared between threads,
    and calling them takes longer than computing them. So it answers :data:`BATCH` images in a
    forward pass, and each core has a process with one thread of torch, forked from this one,
    whose weights it shares. ``OMP_NUM_THREADS`` bounds their number.

    Args:
        model: The model.
        batch_size: What the caller asks for; None chooses.
        workers: What the caller asks for; None chooses.
        images: Number of images; None where it is not known: an iterator may be a camera, whose
            first answer must not wait for further images.
        questions: Number of questions about each.

    Raises:
        ValueError: If the caller asks for something else than positive whole numbers, or for
            workers of a model on a GPU.
    """
    check_counts(batch_size, workers)
    parameters = list(model.parameters())
    on_cpu = all(parameter.device.type == 'cpu' for parameter in parameters)
    if not on_cpu and (workers or 1) > 1:
        raise ValueError('workers are forked processes, which cannot use a GPU; take a larger '
                         'batch_size')
    if (workers or 1) > 1 and not FORKS:
        raise ValueError('workers are forked processes, which this system does not have')
    small = on_cpu and sum(parameter.numel() for parameter in parameters) <= SMALL
    if images is None:
        return Plan(batch_size or 1, None, workers or 1)
    if workers is None:
        cores = (wanted_threads() or usable_cores()) if small and can_fork() else 1
        workers = max(1, min(cores, images * questions // _FEWEST_PER_WORKER))
    most_pixels = None
    if batch_size is None:
        batch_size = BATCH if small else 1
        most_pixels = MOST_PIXELS if small else None
        if questions == 1:
            batch_size = min(batch_size, max(1, math.ceil(images / workers)))
    jobs = images if questions > 1 else math.ceil(images / batch_size)
    return Plan(batch_size, most_pixels, max(1, min(workers, jobs)))


def check_counts(batch_size: Any, workers: Any) -> None:
    """Refuse what is neither None nor a positive whole number.

    Raises:
        ValueError: If one is not.
    """
    for name, value in (('batch_size', batch_size), ('workers', workers)):
        if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f'{name} must be a positive whole number, got {value!r}')


def answer_in_order(prepare: Callable[[ImageSource], PreparedImage],
                    answer: Callable[[list[ReadImage]], Iterable[Answer]],
                    finish: Callable[[Answer], Any] | None, sources: Iterable[ImageSource],
                    questions: int, plan: Plan) -> Iterator[Any]:
    """Prepare and answer in batches.

    Args:
        prepare: Reads an image.
        answer: Answers about a batch of images.
        finish: Works on an answer, in the process that made it; None gives the answers.
        sources: The images; an iterator is read as it is answered.
        questions: Number of questions about an image, and so of its answers.
        plan: Batches and processes. Without workers, images are read ahead by a thread, and
            answers finished by others.

    Yields:
        The answers, or what ``finish`` made of them, in the order of the images.

    Raises:
        ChildProcessError: If a worker is killed.
        Exception: Whatever the functions raise, behind the answers about all images before.
    """
    # Each of several questions makes a batch of its own, about a single image.
    together = replace(plan, batch_size=1) if questions > 1 else plan
    if plan.workers == 1:
        read = map_in_order(lambda source: (source, prepare(source)), sources, 1,
                            ahead=2 * together.batch_size)
        answers = chain.from_iterable(map(answer, _batches(read, together)))
        if finish is None:
            return answers
        threads = min(_MOST_DRAWING, wanted_threads() or usable_cores())
        return map_in_order(finish, answers, threads, threads)

    jobs: Iterator[Sequence[Any]]
    if isinstance(sources, list):
        # Workers have the list, so that images in memory need not be sent.
        known, again = sources, iter(sources)
        jobs = iter(range(len(known))[first:first + together.batch_size]
                    for first in range(0, len(known), together.batch_size))
    else:
        taken, again = tee(sources)
        known, jobs = None, _chunks(taken, together.batch_size)

    def images_of(job: Sequence[Any]) -> list[ImageSource]:
        return list(job) if known is None else [known[k] for k in job]

    def work(job: Sequence[Any]) -> Iterator[Any]:
        read = ((source, prepare(source)) for source in images_of(job))
        for batch in _batches(read, together):
            for found in answer(batch):
                yield replace(found, read=None) if finish is None else finish(found)

    def describe(job: Sequence[Any]) -> str:
        names = [source.name for source in images_of(job)]
        return names[0] if len(names) == 1 else f'one of {names[0]} ... {names[-1]}'

    found = map_in_processes(work, jobs, plan.workers, _take_one_thread, describe)
    return found if finish else _with_images(found, again, questions)


def _with_images(answers: Iterator[Answer], sources: Iterator[ImageSource],
                 questions: int) -> Iterator[Answer]:
    """Give answers from another process their images again."""
    for number, answer in enumerate(answers):
        if number % questions == 0:
            source = next(sources)
        yield replace(answer, read=source.read)


def _batches(images: Iterable[ReadImage], plan: Plan) -> Iterator[list[ReadImage]]:
    """Batches of read images; should reading fail, those before make the last one."""
    batch: list[ReadImage] = []
    pixels = 0
    images = iter(images)
    while True:
        failure = None
        try:
            image = next(images, None)
        except Exception as error:
            image, failure = None, error
        added = 0 if image is None else image[1].pixels
        full = plan.most_pixels is not None and pixels + added > plan.most_pixels
        if batch and (image is None or full):
            yield batch
            batch, pixels = [], 0
        if failure is not None:
            raise failure
        if image is None:
            return
        batch.append(image)
        pixels += added
        if len(batch) == plan.batch_size:
            yield batch
            batch, pixels = [], 0


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of items; should the next one fail, those before make the last list."""
    items = iter(items)
    while True:
        chunk, failure = [], None
        try:
            for item in islice(items, size):
                chunk.append(item)
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        if failure is not None:
            raise failure
        if not chunk:
            return


def _take_one_thread() -> None:
    """Have torch and OpenCV compute in the only thread that a forked process has."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def map_in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int,
                 ahead: int) -> Iterator[Result]:
    """Map items in threads and give the results in the items' order.

    Args:
        work: What to do with an item.
        items: Taken one by one; should that fail, what was taken before is given first.
        workers: Threads.
        ahead: Items that are taken before they are asked for, at most.

    Raises:
        Exception: Whatever ``work`` raises, at the place of its item.
    """
    remaining = iter(items)
    failure: Exception | None = None
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()

        def fill() -> None:
            nonlocal failure
            try:
                for item in islice(remaining, ahead - len(waiting)):
                    waiting.append(pool.submit(work, item))
            except Exception as error:
                failure = failure or error

        fill()
        while waiting:
            result = waiting.popleft().result()
            if failure is None:
                fill()
            yield result
    if failure is not None:
        raise failure
