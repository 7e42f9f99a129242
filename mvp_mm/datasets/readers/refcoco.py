# Copyright (c) mvp_mm authors. All rights reserved.
"""The REFER toolkit's layout: ``refs(*).p`` with ``instances.json`` (RefCOCO, +, g)."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.box_faults import BOX_FAULTS, BadBoxes
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import MaskLayout, Record
from mvp_mm.datasets.indexing.packed import PackedList
from mvp_mm.datasets.readers.coco_instance import masks_of
from mvp_mm.datasets.refer_files import load_references
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults

_REF_KEYS = ('ref_id', 'image_id', 'ann_id', 'split', 'sentences')


@DATASETS.register_module()
class RefCocoDataset(PerceptionDataset):
    """One item is one image with all its sentences of a split; its objects have masks.

    Of the boxes, those that references of the split mean must be usable: in evaluation another is
    an error, in training its references are left out.

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

    def target_ids(self, ref: Record) -> list[int]:
        """Annotation ids that a reference means."""
        return [ref['ann_id']]

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        path = self._path(self.instances_file)
        index = CocoIndex(path, MaskLayout(), self.index_dir, self.faults_of(path))
        self.set_classes([c['name'] for c in index.categories], [True] * len(index.categories))
        faults = self.faults_of(self.ann_file)
        by_image = self._references(faults)
        row_of = {ident: row for row, ident in enumerate(index.image_ids().tolist())}
        bad = self._bad_targets(index, by_image)
        images: list[int] = []
        referrals: list[list[tuple]] = []
        for image_id, refs in by_image.items():
            if image_id not in row_of:
                faults('unknown image', f'reference {refs[0]["ref_id"]}',
                       f'names image {image_id}, which {path} does not have')
                continue
            known = index.image(row_of[image_id])[1]['ident'].tolist()
            found = self._referrals(refs, known, bad, faults)
            if found:
                images.append(row_of[image_id])
                referrals.append(found)
        self._images = np.array(images, dtype=np.int64)
        self._place = np.full(len(index), -1, dtype=np.int64)
        self._place[self._images] = np.arange(len(images))
        self._sentences = PackedList(referrals)
        return index

    def _references(self, faults: Faults) -> dict[int, list[Record]]:
        """The split's sound references by image."""
        refs = load_references(self.ann_file)
        refs = [ref for ref in refs if self._sound(ref, faults)]
        faults.repeated([ref['ref_id'] for ref in refs], 'reference')
        faults.repeated([s['sent_id'] for ref in refs for s in ref['sentences']
                         if isinstance(s, dict) and 'sent_id' in s], 'sentence')
        by_image: dict[int, list[Record]] = {}
        for ref in refs:
            if ref['split'] == self.split:
                by_image.setdefault(ref['image_id'], []).append(ref)
        if not by_image:
            found = sorted({str(ref['split']) for ref in refs})
            raise ValueError(f'{self.ann_file}: no reference of split {self.split!r}, splits are '
                             f'{found}')
        return by_image

    def _sound(self, ref: Any, faults: Faults) -> bool:
        """Whether a reference can be looked at further; its sentences are not."""
        if not faults.complete(ref, _REF_KEYS, 'reference'):
            return False
        if isinstance(ref['sentences'], list) and isinstance(ref['image_id'], int):
            return True
        faults('broken record', f'reference {ref["ref_id"]}',
               'must have a list of sentences and a whole number as image_id, has '
               f'{type(ref["sentences"]).__name__} and {ref["image_id"]!r}')
        return False

    def _bad_targets(self, index: CocoIndex, by_image: dict[int, list[Record]]) -> dict[int, str]:
        """What is wrong with the boxes that references mean, by annotation id."""
        meant = {ann_id for refs in by_image.values() for ref in refs
                 for ann_id in self.target_ids(ref)}
        self._bad_boxes = index.bad_boxes.only(sorted(meant))
        return {int(row['ident']): BOX_FAULTS[row['reason']]
                for block in self._bad_boxes.blocks() for row in block}

    def _referrals(self, refs: list[Record], known: list[int], bad: dict[int, str],
                   faults: Faults) -> list[tuple]:
        """The sentences of an image's references, as :class:`Referral` takes them."""
        position = {ann_id: place for place, ann_id in enumerate(known)}
        referrals = []
        dropped = []
        for ref in refs:
            where = f'reference {ref["ref_id"]}'
            targets = self.target_ids(ref)
            self._check(ref, targets, where, faults)
            unknown = [a for a in targets if a not in position and a not in bad]
            if unknown:
                faults('unknown annotation', where, f'means annotation {unknown[0]}, which image '
                       f'{ref["image_id"]} does not have')
            elif any(a in bad for a in targets):
                dropped.append(ref['ref_id'])
            else:
                referrals += [
                    (s['sent'], [position[a] for a in targets], ref['ref_id'], s['sent_id'],
                     s.get('kind', ''))
                    for s in ref['sentences']
                    if faults.complete(s, ('sent', 'sent_id'), f'{where}, sentence')]
        if dropped:
            print_log(f'{Path(self.ann_file).name}: references {dropped} left out, whose boxes '
                      'cannot be used', logger='current')
        return referrals

    def _check(self, ref: Record, targets: list[int], where: str, faults: Faults) -> None:
        """What a check tells besides."""
        if not faults.collects:
            return
        faults.count('references of the split')
        faults.count('sentences of the split', len(ref['sentences']))
        if 'no_target' in ref and bool(ref['no_target']) == bool(targets):
            faults.minor('contradiction', where,
                         f'no_target is {ref["no_target"]}, ann_id {ref["ann_id"]}')
        if not ref['sentences'] or not all(
                str(s.get('sent', '')).strip() for s in ref['sentences'] if isinstance(s, dict)):
            faults.minor('empty sentence', where, 'has a sentence without words, or none')

    def used_rows(self, index: CocoIndex) -> np.ndarray:
        """See :meth:`PerceptionDataset.used_rows`."""
        return self._images

    def bad_boxes(self, index: CocoIndex) -> BadBoxes:
        """See :meth:`PerceptionDataset.bad_boxes`."""
        return self._bad_boxes

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        return dict(super().indexed_item(index, row), **masks_of(index, row),
                    referrals=self._sentences[int(self._place[row])])
