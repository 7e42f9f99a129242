# Copyright (c) mvp_mm authors. All rights reserved.
"""Image-caption pairs in LLaVA's chat JSON (CC3M and the like)."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.records import FILE_NAME, ID_OR_TEXT, OBJECT, RecordFormat, list_of
from mvp_mm.utils.texts import is_text, shown

RECORD = RecordFormat('record', id=ID_OR_TEXT, image=FILE_NAME, conversations=list_of(OBJECT))


@DATASETS.register_module()
class CaptionDataset(PerceptionDataset):
    """Images with captions: one question and one answer per record.

    Arguments: see :class:`PerceptionDataset`. Image sizes are not in the file; ``height`` and
    ``width`` are known once the image is read.
    """

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        faults = self.faults_of(self.ann_file)
        records = load_json(self.ann_file, list)
        faults.count('records', len(records))
        items = [item for place, record in enumerate(records)
                 if (item := self._item(record, place, faults))]
        faults.repeated([item['img_id'] for item in items], 'record')
        return items

    def _item(self, record: Any, place: int, faults: Faults) -> dict[str, Any] | None:
        if not RECORD.accepts(record, faults, place):
            return None
        answers = [turn.get('value') for turn in record['conversations']
                   if turn.get('from') == 'gpt']
        if len(answers) != 1 or not is_text(answers[0]):
            faults('broken text', RECORD.where(record),
                   f'must have one answer with text, got {shown(answers)}')
            return None
        return dict(
            img_path=self.image_path(record['image']),
            img_id=record['id'],
            file_name=record['image'],
            captions=[answers[0].strip()])
