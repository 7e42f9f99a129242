# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads referring expressions from a CSV file."""
from __future__ import annotations

import csv
from typing import Any

import numpy as np

from mvp_mm.datasets import PerceptionDataset
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class CsvReferringDataset(PerceptionDataset):
    """Reads lines of ``image,expression,x,y,w,h``: an object and an expression that refers to it.

    Arguments: see :class:`PerceptionDataset`.
    """

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`; one item per image."""
        items: dict[str, dict[str, Any]] = {}
        with open(self.ann_file, newline='', encoding='utf-8-sig') as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    name, text = row['image'], row['expression']
                    x, y, w, h = (float(row[key]) for key in 'xywh')
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f'{self.ann_file}: line {number} is not image,expression,'
                                     f'x,y,w,h: {error!r}') from error
                item = items.setdefault(name, dict(
                    img_path=self.image_path(name), img_id=name, file_name=name, boxes=[],
                    referrals=[]))
                item['referrals'].append((text, [len(item['boxes'])], number, number))
                item['boxes'].append([x, y, x + w, y + h])
        for item in items.values():
            item['boxes'] = np.array(item['boxes'], dtype=np.float32)
        return list(items.values())
