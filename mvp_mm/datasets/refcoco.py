# Copyright (c) mvp_mm authors. All rights reserved.
"""The REFER toolkit's layout: ``refs(*).p`` with ``instances.json`` (RefCOCO, +, g)."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import CocoRecords, Record
from mvp_mm.datasets.files import load_plain_pickle, require
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class RefCocoDataset(PerceptionDataset):
    """One item is one image with all its sentences of a split; its objects have masks.

    Args:
        *args: See :class:`PerceptionDataset`; ``ann_file`` is the file of references, whose name
            tells who split it, as in ``refs(unc).p``.
        instances_file: The ``instances.json`` beside it.
        split: Name of the split, such as ``train``, ``val`` or ``testA``.
        **kwargs: See :class:`PerceptionDataset`.
    """

    def __init__(self, *args: Any, instances_file: str, split: str, **kwargs: Any) -> None:
        self.instances_file = instances_file
        self.split = split
        super().__init__(*args, **kwargs)

    def load_refs(self) -> list[Record]:
        """Read the file of references."""
        refs = load_plain_pickle(self.ann_file)
        if not isinstance(refs, list):
            raise ValueError(f'{self.ann_file}: expected a list of references, got '
                             f'{type(refs).__name__}')
        return refs

    def target_ids(self, ref: Record) -> list[int]:
        """Annotation ids that a reference means."""
        return [ref['ann_id']]

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        records = CocoRecords(
            self._path(self.instances_file),
            annotation_keys=('id', 'image_id', 'category_id', 'bbox', 'segmentation'))
        self.set_classes([c['name'] for c in records.categories], [True] * len(records.categories))
        refs = self.load_refs()
        by_image: dict[int, list[Record]] = {}
        for ref in refs:
            require(ref, ('ref_id', 'image_id', 'ann_id', 'split', 'sentences'), self.ann_file,
                    'reference')
            if ref['split'] == self.split:
                by_image.setdefault(ref['image_id'], []).append(ref)
        if not by_image:
            found = sorted({str(ref['split']) for ref in refs})
            raise ValueError(f'{self.ann_file}: no reference of split {self.split!r}, splits are '
                             f'{found}')
        return [self._item(records, image_id, refs) for image_id, refs in by_image.items()]

    def _item(self, records: CocoRecords, image_id: int, refs: list[Record]) -> dict[str, Any]:
        if image_id not in records.images:
            raise ValueError(f'{self.ann_file}: reference {refs[0]["ref_id"]} names image '
                             f'{image_id}, which {records.path} does not have')
        objects = records.annotations.get(image_id, [])
        position = {annotation['id']: index for index, annotation in enumerate(objects)}
        referrals = []
        for ref in refs:
            targets = []
            for ann_id in self.target_ids(ref):
                if ann_id not in position:
                    raise ValueError(f'{self.ann_file}: reference {ref["ref_id"]} means annotation '
                                     f'{ann_id}, which image {image_id} does not have')
                targets.append(position[ann_id])
            for sentence in ref['sentences']:
                require(sentence, ('sent', 'sent_id'), self.ann_file,
                        f'reference {ref["ref_id"]}, sentence')
                referrals.append((sentence['sent'], targets, ref['ref_id'], sentence['sent_id'],
                                  sentence.get('kind', '')))
        return dict(
            records.base_item(records.images[image_id], self.data_prefix['img']),
            **records.object_fields(objects),
            segmentations=[annotation['segmentation'] for annotation in objects],
            referrals=referrals)
