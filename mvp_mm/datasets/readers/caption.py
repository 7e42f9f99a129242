# Copyright (c) mvp_mm authors. All rights reserved.
"""Image-caption pairs in LLaVA's chat JSON (CC3M and the like)."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json


@DATASETS.register_module()
class CaptionDataset(PerceptionDataset):
    """Images with captions: one question and one answer a record.

    Arguments: see :class:`PerceptionDataset`. Image sizes are not in the file; ``height`` and
    ``width`` are known once the image is read.
    """

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        faults = self.faults_of(self.ann_file)
        records = load_json(self.ann_file, list)
        faults.count('records', len(records))
        items = [item for record in records if (item := self._item(record, faults))]
        faults.repeated([item['img_id'] for item in items], 'record')
        return items

    def _item(self, record: dict[str, Any], faults: Faults) -> dict[str, Any] | None:
        if not faults.complete(record, ('id', 'image', 'conversations'), 'record'):
            return None
        turns = record['conversations']
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            faults('broken record', f'record {record["id"]}',
                   'must have a list of objects as conversations')
            return None
        answers = [turn.get('value') for turn in turns if turn.get('from') == 'gpt']
        if len(answers) != 1 or not isinstance(answers[0], str) or not answers[0].strip():
            faults('empty sentence', f'record {record["id"]}',
                   f'must have one answer with text, got {answers}')
            return None
        return dict(
            img_path=self.image_path(record['image']),
            img_id=record['id'],
            file_name=record['image'],
            captions=[answers[0].strip()])
