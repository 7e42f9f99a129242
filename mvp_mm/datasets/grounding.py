# Copyright (c) mvp_mm authors. All rights reserved.
"""MDETR-style grounding JSON: boxes tied to spans of the image's caption (GoldG)."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import CocoRecords, Record
from mvp_mm.datasets.files import require
from mvp_mm.registry import DATASETS

_EDGES = ' \t\n.,;:!?()[]"\''


@DATASETS.register_module()
class GroundingDataset(PerceptionDataset):
    """Boxes with phrases of a caption.

    A box's phrase is the text of its ``tokens_positive`` spans, in lower case; boxes with the
    same phrase are its targets. The vocabulary, from which a task may draw negatives, holds the
    dataset's most frequent phrases; objects have no class.

    Images whose ``data_source`` is ``coco`` (``final_mixed_train.json`` mixes COCO 2014 with Visual
    Genome) lie in ``data_prefix['coco']``; without this key they are left out and their number is
    logged, which is what ``final_mixed_train_no_coco.json`` amounts to. Boxes that no phrase names
    (empty ``tokens_positive``) are left out and counted too.

    Args:
        *args: See :class:`PerceptionDataset`.
        vocabulary_size: Number of phrases in the vocabulary.
        **kwargs: See :class:`PerceptionDataset`.
    """

    def __init__(self, *args: Any, vocabulary_size: int = 10000, **kwargs: Any) -> None:
        self.vocabulary_size = vocabulary_size
        super().__init__(*args, **kwargs)

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        records = CocoRecords(
            self.ann_file, annotation_keys=('image_id', 'bbox', 'tokens_positive'))
        usable = records.usable()
        frequency: Counter[str] = Counter()
        items = []
        nameless = 0
        for image_id, image in records.images.items():
            require(image, ('caption',), self.ann_file, 'image')
            if self._folder(image) is None:
                continue
            named = [record for record in usable[image_id] if record['tokens_positive']]
            nameless += len(usable[image_id]) - len(named)
            spans: dict[str, list[int]] = {}
            for index, record in enumerate(named):
                spans.setdefault(self._phrase(record, image), []).append(index)
            frequency.update(spans.keys())
            items.append(self._item(records, image, named, spans))
        self._log_unusable(len(records.images) - len(items), nameless)
        phrases = [phrase for phrase, _ in frequency.most_common(self.vocabulary_size)]
        self.set_classes(phrases, [True] * len(phrases))
        return items

    def _folder(self, image: Record) -> str | None:
        """The folder of an image, None where it is not given."""
        source = 'coco' if image.get('data_source') == 'coco' else 'img'
        return self.data_prefix.get(source)

    def _log_unusable(self, images: int, boxes: int) -> None:
        if images:
            print_log(f'{Path(self.ann_file).name}: {images} images of COCO left out, for which '
                      "data_prefix has no 'coco'", logger='current')
        if boxes:
            print_log(f'{Path(self.ann_file).name}: {boxes} boxes without a phrase left out',
                      logger='current')

    def _phrase(self, record: Record, image: Record) -> str:
        caption = image['caption']
        spans = record['tokens_positive']
        if any(not 0 <= start < end <= len(caption) for start, end in spans):
            raise ValueError(f'{self.ann_file}: annotation {record.get("id")} has spans {spans} '
                             f'outside the caption of image {image["id"]}')
        text = ' '.join(caption[start:end].strip(_EDGES) for start, end in sorted(spans))
        text = ' '.join(text.lower().split())
        if not text:
            raise ValueError(f'{self.ann_file}: spans {spans} of annotation {record.get("id")} '
                             'hold no word')
        return text

    def _item(self, records: CocoRecords, image: Record, annotations: list[Record],
              spans: dict[str, list[int]]) -> dict[str, Any]:
        fields = dict(
            boxes=records.boxes(annotations),
            labels=np.full(len(annotations), -1, dtype=np.int64),
            crowd=np.array([bool(r.get('iscrowd', 0)) for r in annotations], dtype=bool))
        return dict(
            records.base_item(image, self._folder(image)),
            **fields,
            captions=[image['caption']],
            caption_spans=list(spans.items()))
