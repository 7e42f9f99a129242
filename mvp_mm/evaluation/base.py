# Copyright (c) mvp_mm authors. All rights reserved.
"""What the metrics share: bookkeeping by image, checks, and tables in the log."""
from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mvp_mm.utils.arrays import to_numpy


def sample_name(sample: Mapping[str, Any]) -> str:
    """How messages call a sample."""
    name = f"image {sample.get('img_id', '?')}"
    if sample.get('img_path'):
        name += f" ({sample['img_path']})"
    instruction = sample.get('instruction')
    if instruction is not None and instruction.kind == 'sentence':
        name += f', "{", ".join(instruction.phrases)}"'
    return name


def sample_key(sample: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a sample from all others of its dataset: image, reference, task and words."""
    instruction = sample.get('instruction')
    asked = '' if instruction is None else '\0'.join((instruction.task, *instruction.phrases))
    # A word list may be long, and a key is kept for every sample.
    digest = hashlib.blake2b(asked.encode(), digest_size=8).digest()
    return sample.get('img_id', ''), sample.get('ref_id', ''), sample.get('sent_id', ''), digest


def require(sample: Mapping[str, Any], *path: str) -> Any:
    """The value under nested keys.

    Raises:
        KeyError: Naming the sample, the missing key, and the keys beside which it was looked for.
    """
    value: Any = sample
    for depth, key in enumerate(path):
        if not isinstance(value, Mapping) or key not in value:
            beside = f' beside {", ".join(map(str, value))}' if depth and value else ''
            raise KeyError(f'{sample_name(sample)} has no {".".join(path[:depth + 1])}{beside}')
        value = value[key]
    return value


def checked_scores(sample: Mapping[str, Any], scores: Any) -> np.ndarray:
    """Scores as an array.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    scores = to_numpy(scores).astype(np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f'{sample_name(sample)}: a predicted score is NaN or infinite')
    return scores


def checked_boxes(sample: Mapping[str, Any], boxes: Any) -> np.ndarray:
    """(n, 4) boxes as an array.

    Raises:
        ValueError: If a coordinate is NaN or infinite.
    """
    boxes = to_numpy(boxes).astype(np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError(f'{sample_name(sample)}: a predicted box is NaN or infinite')
    return boxes


def checked_masks(sample: Mapping[str, Any], masks: Any, count: int) -> torch.Tensor:
    """(count, h, w) masks as a bool tensor on their device.

    Raises:
        ValueError: If the number or the size of the masks differs from the sample's.
    """
    masks = torch.as_tensor(masks)
    expected = (count, *map(int, sample['ori_shape'][:2]))
    if tuple(masks.shape) != expected:
        raise ValueError(f'{sample_name(sample)}: masks have shape {tuple(masks.shape)}, '
                         f'expected {expected} (n, h, w)')
    return masks.bool()


class NothingToMeasureError(ValueError):
    """Truth or answers hold nothing of the kind that a metric measures."""


class PerceptionMetric(BaseMetric):
    """Base of the metrics: one small result per sample, grouped by image.

    An image may carry any number of instructions, while mmengine gathers the ranks' results
    assuming one result per dataset item. So results are stored as one list per image, empty lists
    included. Every result knows its sample: what a padded sampler repeats at the end falls away,
    and any other sample that comes twice is an error, so that nothing is counted twice.

    The figures of a dataset without anything to find (no objects, crowds alone, void everywhere)
    are left out, where COCO's evaluation says -1; a warning names the dataset.
    """

    def process(self, data_batch: Mapping[str, Any] | None,
                data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Measure a batch.

        Args:
            data_batch: The batch from the data loader, whose ``data_samples`` hold one list of
                samples an image. Without a batch every sample counts as an image of its own.
            data_samples: Flat list of samples as dicts; ``image_index`` is the sample's image.

        Raises:
            ValueError: If a sample has sizes, labels or scores that make no sense.
        """
        if data_batch is None:
            self.results.extend([self._measure(sample)] for sample in data_samples)
            return
        images: list[list[Any]] = [[] for _ in data_batch['data_samples']]
        for sample in data_samples:
            images[int(require(sample, 'image_index'))].append(self._measure(sample))
        self.results.extend(images)

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the results of all processes and summarise them.

        Args:
            size: Number of items of the dataset; gathered images from there on may be repeats.

        Raises:
            ValueError: In all processes, if the dataset is empty, a sample was measured twice, or
                the results cannot be summarised.
        """
        self._size = size
        found = super().evaluate(sys.maxsize)
        for value in found.values():
            if isinstance(value, Exception):
                raise value
        return found

    def compute_metrics(self, results: list[list[tuple]]) -> dict[str, Any]:
        """Summarise the samples of all images; called in the first process.

        Args:
            results: An image's list of (key, name, measured), for each image.

        Returns:
            The figures; an error in their place, which :meth:`evaluate` raises everywhere, since
            the other processes wait for a result.
        """
        try:
            return self.summarize(self._by_sample(results))
        except NothingToMeasureError as error:
            source = (self.dataset_meta or {}).get('source', 'the dataset')
            MMLogger.get_current_instance().warning(
                f'{type(self).__name__}: {source} has {error}: its figures are left out')
            return {}
        except (KeyError, ValueError) as error:
            return dict(failure=error)

    def _by_sample(self, results: list[list[tuple]]) -> list[Any]:
        """What was measured, once per sample."""
        measured: dict[tuple, Any] = {}
        for place, image in enumerate(results):
            for key, name, result in image:
                if key not in measured:
                    measured[key] = result
                elif place < self._size:
                    raise ValueError(f'{type(self).__name__}: {name} was measured twice')
        if not measured:
            raise ValueError(f'{type(self).__name__}: the dataset is empty, nothing to evaluate')
        return list(measured.values())

    def _measure(self, sample: Mapping[str, Any]) -> tuple:
        name = sample_name(sample)
        try:
            return sample_key(sample), name, self.measure(sample)
        except ValueError as error:
            if str(error).startswith(name):
                raise
            raise ValueError(f'{name}: {error}') from error

    @abstractmethod
    def measure(self, sample: Mapping[str, Any]) -> Any:
        """Turn one sample into a small picklable result."""

    @abstractmethod
    def summarize(self, results: list[Any]) -> dict[str, float]:
        """Turn the results of all samples into named numbers, in percent.

        Raises:
            NothingToMeasureError: If the ground truth has nothing to find; says what it has.
        """

    def log_table(self, title: str, rows: Sequence[Sequence[Any]]) -> None:
        """Write a table to the log.

        Args:
            title: Shown above it.
            rows: Header first; floats are shown with two decimals.
        """
        text = [[f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in row]
                for row in rows]
        MMLogger.get_current_instance().info(f'{title}\n{AsciiTable(text).table}')
