# Copyright (c) mvp_mm authors. All rights reserved.
"""Replaces samples that cannot be read in training, and counts them."""
from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mvp_mm.datasets.draws import DrawnIndex, seed_globals
from mvp_mm.utils.texts import shown

# What broken files and records raise; anything else is a fault of the code.
BAD_INPUT = (ValueError, OSError, cv2.error)
_GRACE = 10
_MAX_WORKERS = 256


class TooManyBadSamples(RuntimeError):
    """More samples of a dataset are bad than its ``max_bad_share`` allows."""


class BadSampleCounter:
    """Counts samples read and bad ones, over all workers of a process.

    The counts lie in shared memory, one row per worker, so that no lock is needed and nothing is
    lost when workers are started anew.

    Args:
        size: Number of items of the dataset.
    """

    def __init__(self, size: int) -> None:
        self._counts = torch.zeros(_MAX_WORKERS + 1, 2, dtype=torch.int64).share_memory_()
        self._reported = torch.zeros(size, dtype=torch.bool).share_memory_()

    @staticmethod
    def _row() -> int:
        worker = get_worker_info()
        if worker is None:
            return 0
        if worker.id >= _MAX_WORKERS:
            raise ValueError(f'At most {_MAX_WORKERS} workers are supported, got {worker.id + 1}')
        return worker.id + 1

    def add(self, bad: bool) -> tuple[int, int]:
        """Count one sample; returns the numbers of samples and of bad ones so far."""
        self._counts[self._row()] += torch.tensor([1, int(bad)])
        return tuple(self._counts.sum(0).tolist())

    def first_report(self, idx: int) -> bool:
        """Whether an item's fault was not reported before; from now on it was."""
        first = not self._reported[idx]
        self._reported[idx] = True
        return first

    @property
    def bad(self) -> int:
        """Number of bad samples so far."""
        return int(self._counts[:, 1].sum())


class TolerantDataset(BaseDataset):
    """In training, replaces samples that cannot be read; in evaluation they are errors.

    A bad sample is one whose reading raises ``ValueError``, ``OSError`` or ``cv2.error``. It is
    counted, logged once with its message, and another item takes its place. An item that no task
    asks anything about (the pipeline returns None) is replaced without being counted. Which item
    takes the place depends on the index and the attempt alone.

    Args:
        ann_file: See :class:`mmengine.dataset.BaseDataset`.
        metainfo: See there.
        data_root: See there.
        data_prefix: Folders by what they hold, such as ``dict(img='train2017')``.
        max_bad_share: Largest share of bad samples; the first ten are always let through unless
            it is 0.
        max_refetch: Most replacements in a row.
        **kwargs: Other keywords of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: If ``max_bad_share`` is not in [0, 1], or a path is no text.
    """

    @classmethod
    def _check_paths(cls, data_prefix: Any, **paths: Any) -> None:
        """Refuse paths of another type, which would end in an error that names none of them."""
        if not isinstance(data_prefix, dict):
            raise ValueError(f'{cls.__name__}: data_prefix must name folders by what they hold, '
                             f'as dict(img=...), got {shown(data_prefix)}')
        paths.update((f'data_prefix.{key}', value) for key, value in data_prefix.items())
        for key, value in paths.items():
            if not isinstance(value, (str, PathLike)):
                raise ValueError(f'{cls.__name__}: {key} must be a path, got {shown(value)}')

    def __init__(self, ann_file: str | None = '', metainfo: Mapping | Config | None = None,
                 data_root: str | None = '', data_prefix: dict | None = None, *,
                 max_bad_share: float = 0.01, max_refetch: int = 100, **kwargs: Any) -> None:
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f'max_bad_share must be in [0, 1], got {max_bad_share}')
        data_prefix = dict(img_path='') if data_prefix is None else data_prefix
        self._check_paths(data_prefix, **{
            key: value for key, value in (('ann_file', ann_file), ('data_root', data_root))
            if value is not None})
        self.max_bad_share = max_bad_share
        self._counter: BadSampleCounter | None = None
        super().__init__(
            ann_file, metainfo, data_root, data_prefix, max_refetch=max_refetch, **kwargs)

    def full_init(self) -> None:
        """See :meth:`mmengine.dataset.BaseDataset.full_init`."""
        super().full_init()
        self._count_anew()

    def _count_anew(self) -> None:
        """Start counting, in the process that will start the workers."""
        self._counter = BadSampleCounter(len(self))

    def get_subset_(self, indices: int | list[int]) -> None:
        """See :meth:`mmengine.dataset.BaseDataset.get_subset_`."""
        super().get_subset_(indices)
        self._count_anew()

    def get_subset(self, indices: int | list[int]) -> BaseDataset:
        """See :meth:`mmengine.dataset.BaseDataset.get_subset`."""
        subset = super().get_subset(indices)
        subset._count_anew()
        return subset

    @property
    def num_bad(self) -> int:
        """Bad samples met so far, by this process and its workers."""
        return self._counter.bad if self._counter else 0

    def describe(self, idx: int) -> str:
        """An item's name in messages."""
        return f'{type(self).__name__} {self.ann_file}'.rstrip() + f', item {idx}'

    def __getitem__(self, idx: int) -> Any:
        """The item after the pipeline.

        Raises:
            TooManyBadSamples: In training, if more than ``max_bad_share`` of the samples are bad.
            ValueError: If no task asks anything about the item, or OpenCV cannot transform it,
                in evaluation; if no task asks about any of ``max_refetch`` items, in training.
        """
        if not self._fully_initialized:
            self.full_init()
        if self.test_mode:
            try:
                data = self.prepare_data(idx)
            except cv2.error as error:
                raise ValueError(f'{self.describe(idx)}: {error}') from error
            if data is None:
                raise ValueError(f'{self.describe(idx)}: the pipeline returned nothing')
            return data
        for attempt in range(self.max_refetch + 1):
            chosen = idx if attempt == 0 else self._substitute(idx, attempt)
            data = self._try(chosen)
            if data is not None:
                return data
        raise ValueError(f'{self.describe(idx)}: neither it nor {self.max_refetch} others could '
                         'be used')

    def _substitute(self, idx: int, attempt: int) -> int:
        chosen = int(np.random.default_rng([int(idx), attempt]).integers(len(self)))
        return DrawnIndex(chosen, idx.draw) if isinstance(idx, DrawnIndex) else chosen

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on an item.

        The draw of a :class:`~mvp_mm.datasets.draws.DrawnIndex` goes to the transforms of this
        project as ``draw``; the global generators are seeded by it for those of other packages.
        """
        results = self.get_data_info(int(idx))
        if isinstance(idx, DrawnIndex):
            results['draw'] = idx.draw
            seed_globals(*idx.draw)
        return self.pipeline(results)

    def _try(self, idx: int) -> Any:
        """The item after the pipeline, None if it is bad or nothing is asked about it."""
        try:
            data = self.prepare_data(idx)
        except BAD_INPUT as error:
            self._note(idx, error)
            return None
        self._counter.add(bad=False)
        return data

    def allowed_bad(self, total: int) -> float:
        """How many of so many samples or boxes may be bad: none in evaluation."""
        if self.test_mode or not self.max_bad_share:
            return 0
        return max(_GRACE, self.max_bad_share * total)

    def _note(self, idx: int, error: Exception) -> None:
        total, bad = self._counter.add(bad=True)
        fault = f'{self.describe(idx)}: {type(error).__name__}: {error}'
        if bad > self.allowed_bad(total):
            raise TooManyBadSamples(
                f'{bad} of {total} samples are bad, more than max_bad_share='
                f'{self.max_bad_share:g}; the last one: {fault}') from error
        if self._counter.first_report(idx):
            print_log(f'Bad sample skipped ({bad} of {total} so far): {fault}', logger='current',
                      level=logging.WARNING)
