# Copyright (c) mvp_mm authors. All rights reserved.
"""Ref-Adv: one row per expression, with the box that it means (arXiv 2602.23898)."""
from __future__ import annotations

from typing import Any

import numpy as np

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.box_faults import BOX_FAULTS, corner_faults
from mvp_mm.registry import DATASETS
from mvp_mm.utils.files import load_records
from mvp_mm.utils.records import BOX, FILE_NAME, FLAG, SIDE, TEXT, RecordFormat

ROW = RecordFormat(
    'row', ident='', file_name=FILE_NAME, width=SIDE, height=SIDE, normal_caption=TEXT,
    solution=BOX._replace(expected='[x1, y1, x2, y2]'), use_negation=FLAG.optional)


@DATASETS.register_module()
class RefAdvDataset(PerceptionDataset):
    """One item is one image with all its expressions; an object is an expression's box.

    ``ann_file`` is JSON, a list of rows, or JSON lines: the published table without its images.
    Expressions that negate are of the kind ``negation``, the others ``plain``, so that a metric
    tells them apart.

    Arguments: see :class:`PerceptionDataset`.

    Raises:
        ValueError: If a row is broken, its box cannot be used, or rows differ in an image's size.
    """

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        faults = self.faults_of(self.ann_file)
        items: dict[str, dict[str, Any]] = {}
        for where, place, row in load_records(self.ann_file, faults):
            if not ROW.accepts(row, faults, where=where):
                continue
            name, size = row['file_name'], dict(height=row['height'], width=row['width'])
            item = items.setdefault(name, dict(
                size, img_path=self.image_path(name), img_id=name, file_name=name, boxes=[],
                referrals=[]))
            box = np.array(row['solution'], dtype=np.float64).astype(np.float32)
            reason = corner_faults(box[None], row['height'], row['width'])[0]
            if reason:
                faults('broken box', where, f'has the box {row["solution"]}: {BOX_FAULTS[reason]}')
            elif any(item[side] != length for side, length in size.items()):
                faults('image size', where, f'gives {name} another size than the rows before it')
            else:
                kind = 'negation' if row.get('use_negation') else 'plain'
                item['referrals'].append(
                    (row['normal_caption'], [len(item['boxes'])], place, place, kind))
                item['boxes'].append(box)
        faults.count('images', len(items))
        for item in items.values():
            item['boxes'] = np.array(item['boxes'], dtype=np.float32).reshape(-1, 4)
        return list(items.values())
