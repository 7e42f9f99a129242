# Copyright (c) mvp_mm authors. All rights reserved.
"""Works on many images side by side, in threads, and gives the results in the images' order."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import nn

from mvp_mm.utils.cores import usable_cores, wanted_threads

# Larger models fill the cores with one image, and their activations the memory with several.
SMALL = 100_000_000

Item = TypeVar('Item')
Ready = TypeVar('Ready')
Result = TypeVar('Result')


def choose_workers(model: nn.Module, workers: int | None = None) -> int:
    """Choose how many images a model works on at a time.

    A small model leaves cores idle: most of its steps are too short to be shared between threads.
    So on a CPU each core gets an image of its own, with one thread of torch. ``OMP_NUM_THREADS``
    bounds their number.

    Args:
        model: The model.
        workers: What the caller asks for; None chooses.

    Raises:
        ValueError: If the caller asks for something else than a positive whole number.
    """
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f'workers must be a positive whole number, got {workers!r}')
        return workers
    parameters = list(model.parameters())
    on_cpu = all(parameter.device.type == 'cpu' for parameter in parameters)
    if not on_cpu or sum(parameter.numel() for parameter in parameters) > SMALL:
        return 1
    return wanted_threads() or usable_cores()


def answer_in_order(prepare: Callable[[Item], Ready],
                    answer: Callable[[list[tuple[Item, Ready]]], Iterable[Result]],
                    items: Iterable[Item], batch_size: int, workers: int) -> Iterator[Result]:
    """Prepare and answer in batches; images are read ahead while others are answered.

    Args:
        prepare: Reads an image.
        answer: Answers about a batch of images.
        items: The images; an iterator is read as it is answered.
        batch_size: Images of a batch.
        workers: Batches at a time. One is answered in the calling thread, several by threads with
            one thread of torch each.

    Yields:
        The answers, in the order of the images.
    """
    prepared = map_in_order(lambda item: (item, prepare(item)), items, workers,
                            ahead=2 * batch_size * workers)
    batches = iter(lambda: list(islice(prepared, batch_size)), [])
    if workers == 1:
        return chain.from_iterable(map(answer, batches))
    return chain.from_iterable(_single_threaded(
        lambda batch: list(answer(batch)), batches, workers))


def map_in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int,
                 ahead: int, begin: Callable[[], Any] | None = None) -> Iterator[Result]:
    """Map items in threads and give the results in the items' order.

    Args:
        work: What to do with an item.
        items: Taken one by one; should that fail, what was taken before is given first.
        workers: Threads.
        ahead: Items that are taken before they are asked for, at most.
        begin: What each thread does first.

    Raises:
        Exception: Whatever ``work`` raises, at the place of its item.
    """
    remaining = iter(items)
    failure: Exception | None = None
    with ThreadPoolExecutor(workers, initializer=begin) as pool:
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


def _single_threaded(work: Callable[[Item], Result], items: Iterable[Item],
                     workers: int) -> Iterator[Result]:
    """Map in threads of which each has torch's operations to itself."""
    threads = torch.get_num_threads()
    try:
        # The number is a thread's own; threads that are born later inherit the last one set.
        yield from map_in_order(work, items, workers, workers + 1,
                                begin=lambda: torch.set_num_threads(1))
    finally:
        torch.set_num_threads(threads)
