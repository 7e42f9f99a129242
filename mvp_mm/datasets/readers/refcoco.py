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
from mvp_mm.datasets.refer_files import SPLIT, load_references
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import ID_OR_TEXT, LIST, STRING, TEXT, RecordFormat
from mvp_mm.utils.texts import is_text, shown

SENTENCE = RecordFormat('sentence', ident='sent_id', sent=TEXT, sent_id=ID_OR_TEXT,
                        kind=STRING.optional)


@DATASETS.register_module()
class RefCocoDataset(PerceptionDataset):
    """One item is one image with all its sentences of a split; its objects have masks.

    Of the boxes, those that references of the split mean must be usable: in evaluation another is
    an error, in training its references are left out. So are, in training, sentences that are
    empty or no text; an error above ``max_bad_share``.

    Args:
        *args: See :class:`PerceptionDataset`; ``ann_file`` is the file of references, whose name
            tells who split it, as in ``refs(unc).p``.
        instances_file: The ``instances.json`` beside it.
        split: Name of the split, such as ``train``, ``val`` or ``testA``.
        **kwargs: See :class:`PerceptionDataset`.
    """

    reference = SPLIT.but(ann_id=ID_OR_TEXT, sentences=LIST)

    def __init__(self, *args: Any, instances_file: str, split: str, **kwargs: Any) -> None:
        self.instances_file = instances_file
        self.split = split
        self._sent_ids: list[int | str] = []
        self._speechless: list[str] = []
        super().__init__(*args, **kwargs)

    def target_ids(self, ref: Record) -> list[int | str]:
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
                faults('unknown image', self.reference.where(refs[0]),
                       f'names image {image_id}, which {path} does not have')
                continue
            known = index.annotation_ids(index.image(row_of[image_id])[1]['ident'])
            found = self._referrals(refs, known, bad, faults)
            if found:
                images.append(row_of[image_id])
                referrals.append(found)
        self._report_sentences(faults)
        self._images = np.array(images, dtype=np.int64)
        self._place = np.full(len(index), -1, dtype=np.int64)
        self._place[self._images] = np.arange(len(images))
        self._sentences = PackedList(referrals)
        return index

    def _references(self, faults: Faults) -> dict[int, list[Record]]:
        """The split's sound references by image."""
        refs = [ref for place, ref in enumerate(load_references(self.ann_file))
                if self.reference.accepts(ref, faults, place)]
        faults.repeated([ref['ref_id'] for ref in refs], 'reference')
        by_image: dict[int, list[Record]] = {}
        for ref in refs:
            if ref['split'] == self.split:
                by_image.setdefault(ref['image_id'], []).append(ref)
        if not by_image:
            found = sorted({ref['split'] for ref in refs})
            raise ValueError(f'{self.ann_file}: no reference of split {self.split!r}, splits are '
                             f'{shown(found)}')
        return by_image

    def _bad_targets(self, index: CocoIndex,
                     by_image: dict[int, list[Record]]) -> dict[int | str, str]:
        """What is wrong with the boxes that references mean, by annotation id."""
        meant = {ann_id for refs in by_image.values() for ref in refs
                 for ann_id in self.target_ids(ref)}
        self._bad_boxes = index.bad_boxes.only(index.idents_of(meant))
        rows = np.concatenate([self._bad_boxes.rows[:0], *self._bad_boxes.blocks()])
        reasons = [BOX_FAULTS[reason] for reason in rows['reason']]
        return dict(zip(index.annotation_ids(rows['ident']), reasons, strict=True))

    def _referrals(self, refs: list[Record], known: list[int | str | None],
                   bad: dict[int | str, str], faults: Faults) -> list[tuple]:
        """The sentences of an image's references, as :class:`Referral` takes them."""
        position = {ann_id: place for place, ann_id in enumerate(known)}
        referrals = []
        dropped = []
        for ref in refs:
            where = self.reference.where(ref)
            targets = self.target_ids(ref)
            self._report(ref, targets, where, faults)
            unknown = [a for a in targets if a not in position and a not in bad]
            twice = [a for a in targets if known.count(a) > 1]
            contradiction = self.contradiction(ref)
            sentences = self._sentences_of(ref, f'{where}, ', faults)
            if contradiction:
                faults('contradiction', where, contradiction)
            elif unknown:
                faults('unknown annotation', where, f'means annotation {shown(unknown[0])}, '
                       f'which image {ref["image_id"]} does not have')
            elif twice:
                faults('duplicate id', where, f'means annotation {shown(twice[0])}, which image '
                       f'{ref["image_id"]} has more than once')
            elif any(a in bad for a in targets):
                dropped.append(ref['ref_id'])
            else:
                referrals += [
                    (s['sent'], [position[a] for a in targets], ref['ref_id'], s['sent_id'],
                     s.get('kind', '')) for s in sentences]
        if dropped:
            print_log(f'{Path(self.ann_file).name}: references {dropped} left out, whose boxes '
                      'cannot be used', logger='current')
        return referrals

    def contradiction(self, ref: Record) -> str:
        """What makes a reference's targets impossible, ``''`` where nothing does."""
        targets = self.target_ids(ref)
        repeated = [a for a in targets if targets.count(a) > 1]
        return f'means annotation {shown(repeated[0])} more than once' if repeated else ''

    def _sentences_of(self, ref: Record, within: str, faults: Faults) -> list[Record]:
        """The usable sentences of a reference; in training, those that are no text fall out."""
        tolerant = not self.test_mode and not faults.collects
        kept = []
        for place, sentence in enumerate(ref['sentences']):
            known = isinstance(sentence, dict) and 'sent' in sentence
            if tolerant and known and not is_text(sentence['sent']):
                self._speechless.append(f'{within}{SENTENCE.where(sentence, place)} has sent '
                                        f'{shown(sentence["sent"])}')
            elif SENTENCE.accepts(sentence, faults, place, within=within):
                kept.append(sentence)
                self._sent_ids.append(sentence['sent_id'])
        return kept

    def _report_sentences(self, faults: Faults) -> None:
        """Report what was noted about sentences while the references were read.

        Raises:
            ValueError: In training, if too many are no text.
        """
        faults.repeated(self._sent_ids, 'sentence')
        number = len(self._speechless)
        if not number:
            return
        total = number + len(self._sent_ids)
        text = (f'{number} of {total} sentences are no text that shows something: '
                f'{"; ".join(self._speechless[:10])}{"; …" if number > 10 else ""}')
        if number > max(10, self.max_bad_share * total):
            raise ValueError(f'{self.ann_file}: more than max_bad_share={self.max_bad_share:g}: '
                             f'{text}')
        print_log(f'{Path(self.ann_file).name}: left out: {text}', logger='current')

    @staticmethod
    def _report(ref: Record, targets: list[int | str], where: str, faults: Faults) -> None:
        """Report to a check what readers ignore."""
        if not faults.collects:
            return
        faults.count('references of the split')
        faults.count('sentences of the split', len(ref['sentences']))
        if 'no_target' in ref and bool(ref['no_target']) == bool(targets):
            faults.warn('contradiction', where,
                        f'no_target is {ref["no_target"]}, ann_id {shown(ref["ann_id"])}')
        if not ref['sentences']:
            faults.warn('empty sentence', where, 'has no sentence')

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
