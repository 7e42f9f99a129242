# Copyright (c) mvp_mm authors. All rights reserved.
"""gRefCOCO: references with any number of targets (``grefs(unc).json``, ``instances.json``)."""
from __future__ import annotations

from mvp_mm.datasets.indexing.layout import Record
from mvp_mm.datasets.readers.refcoco import RefCocoDataset
from mvp_mm.registry import DATASETS
from mvp_mm.utils.records import FLAG, ID_OR_TEXT, Field, list_of

_NO_TARGET = -1
_TARGETS = list_of(ID_OR_TEXT)


@DATASETS.register_module()
class GRefCocoDataset(RefCocoDataset):
    """As :class:`RefCocoDataset`, with many targets or none. Arguments: the same."""

    reference = RefCocoDataset.reference.but(no_target=FLAG.optional, ann_id=Field(
        lambda value: ID_OR_TEXT.accepts(value) or _TARGETS.accepts(value),
        'a whole number of 64 bits, a text, or a list of them'))

    def target_ids(self, ref: Record) -> list[int | str]:
        """Annotation ids that a reference means; -1 stands for none."""
        ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
        return [ann_id for ann_id in ids if ann_id != _NO_TARGET]

    def contradiction(self, ref: Record) -> str:
        """See :meth:`RefCocoDataset.contradiction`."""
        targets = self.target_ids(ref)
        if targets and isinstance(ref['ann_id'], list) and _NO_TARGET in ref['ann_id']:
            return f'means annotation {targets[0]} and none ({_NO_TARGET})'
        return super().contradiction(ref)
