# Copyright (c) mvp_mm authors. All rights reserved.
"""gRefCOCO: references with any number of targets (``grefs(unc).json``, ``instances.json``)."""
from __future__ import annotations

from mvp_mm.datasets.indexing.layout import Record
from mvp_mm.datasets.readers.refcoco import RefCocoDataset
from mvp_mm.registry import DATASETS

_NO_TARGET = -1


@DATASETS.register_module()
class GRefCocoDataset(RefCocoDataset):
    """As :class:`RefCocoDataset`, with many targets or none. Arguments: the same."""

    def target_ids(self, ref: Record) -> list[int]:
        """Annotation ids that a reference means; -1 stands for none."""
        ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
        return [ann_id for ann_id in ids if ann_id != _NO_TARGET]
