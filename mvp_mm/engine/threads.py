# Copyright (c) mvp_mm authors. All rights reserved.
"""Chooses the number of torch's threads of a run on a CPU."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.config import Config

from mvp_mm.utils.cores import usable_cores, wanted_threads


def choose_threads(workers: int) -> tuple[int, str]:
    """Choose the number of threads for one process with its data workers.

    Other work on the machine has no say: sums depend on how many threads share them, and a run
    that is resumed beside something else must give the same bits.

    Args:
        workers: Data workers of the process, each busy on a core of its own.

    Returns:
        The number, and what it is due to.
    """
    cores = usable_cores()
    reasons = [f'{cores} core{"s" * (cores > 1)}']
    if workers:
        reasons.append(f'{workers} for loading data')
    return max(1, cores - workers), ', '.join(reasons)


def set_threads(cfg: Config, name: str, modes: Iterable[str]) -> None:
    """Set torch's threads of a single process without a GPU, and say so in a line.

    ``OMP_NUM_THREADS`` is left to decide where it is set.

    Args:
        cfg: The config that runs.
        name: What the line starts with.
        modes: ``train``, ``val``, ``test``: whose data loaders run.
    """
    if torch.cuda.is_available() or wanted_threads() is not None:
        return
    workers = max([_workers(cfg.get(f'{mode}_dataloader') or {}) for mode in modes], default=0)
    threads, reason = choose_threads(workers)
    torch.set_num_threads(threads)
    print(f'{name}: on the CPU with {threads} thread{"s" * (threads > 1)} ({reason}); '
          'OMP_NUM_THREADS sets another number')


def _workers(loader: Mapping[str, Any]) -> int:
    """Data workers of a data loader, or most of those that run in turn."""
    if 'dataset' in loader:
        return int(loader.get('num_workers') or 0)
    return max([_workers(part) for part in loader.values() if isinstance(part, Mapping)],
               default=0)
