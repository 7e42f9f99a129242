# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic quality of base and novel classes apart."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.evaluation.panoptic_quality import Counts, PanopticQualityMetric
from mvp_mm.registry import METRICS


class BaseClasses:
    """Tells which classes training has named.

    Args:
        names: Their names, or the name of a class list such as ``coco_stuff_171``.
    """

    def __init__(self, names: str | Sequence[str]) -> None:
        known = load_vocabulary(names)[0] if isinstance(names, str) else names
        self.names = frozenset(known)

    def __contains__(self, name: str) -> bool:
        """Tell whether a class, or one of its names listed with commas, was in training."""
        return not self.names.isdisjoint([name, *(part.strip() for part in name.split(','))])


@METRICS.register_module()
class SplitPanopticQualityMetric(PanopticQualityMetric):
    """Reports ``panoptic/PQ_base`` and ``PQ_novel`` beside the usual figures.

    Args:
        base_classes: See :class:`BaseClasses`.
        **kwargs: See :class:`PanopticQualityMetric`.
    """

    def __init__(self, base_classes: str | Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base_classes = BaseClasses(base_classes)

    def summarize(self, results: list[Counts]) -> dict[str, float]:
        """See :meth:`PanopticQualityMetric.summarize`."""
        figures = super().summarize(results)
        for group in ('base', 'novel'):
            part = [{name: counts for name, counts in result.items()
                     if (name in self.base_classes) == (group == 'base')} for result in results]
            if any(part):
                figures[f'PQ_{group}'] = super().summarize(part)['PQ']
        return figures
