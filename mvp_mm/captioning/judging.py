# Copyright (c) mvp_mm authors. All rights reserved.
"""Judges a whole source of captions, on one core or several."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice

from mvp_mm.datasets.captions.records import ImageCaptions
from mvp_mm.datasets.captions.refine import CaptionRefiner, Verdict

Judged = tuple[ImageCaptions, list[Verdict]]
_CHUNK = 500


def judge_all(source: Iterable[ImageCaptions], refiner: CaptionRefiner,
              workers: int = 1) -> Iterator[Judged]:
    """Judge every image of a source, in its order.

    Args:
        source: Images with their captions.
        refiner: What judges them.
        workers: Processes; with more than one, a few chunks per process are read ahead.

    Raises:
        ValueError: If ``workers`` is below one.
    """
    if workers < 1:
        raise ValueError(f'need at least one worker, got {workers}')
    if workers == 1:
        yield from (_judge(refiner, entry) for entry in source)
        return
    entries = iter(source)
    chunks = iter(lambda: list(islice(entries, _CHUNK)), [])
    judge = partial(_judge_chunk, refiner)
    with ProcessPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(judge, chunk) for chunk in islice(chunks, 3 * workers))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(pool.submit(judge, chunk) for chunk in islice(chunks, 1))


def _judge(refiner: CaptionRefiner, entry: ImageCaptions) -> Judged:
    return entry, refiner.judge_image([caption.text for caption in entry.captions],
                                      [caption.cut for caption in entry.captions])


def _judge_chunk(refiner: CaptionRefiner, entries: Sequence[ImageCaptions]) -> list[Judged]:
    return [_judge(refiner, entry) for entry in entries]
