# Copyright (c) mvp_mm authors. All rights reserved.
"""Miniature copies of newer benchmarks' folder trees; see :mod:`tests.test_datasets.miniature`."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from pycocotools import mask as coco_mask

from tests.helpers import ROOT
from tests.test_datasets.miniature import (
    image_record,
    objects,
    picture,
    value_png,
    write_lines,
)
from tests.test_datasets.small_data import BOXES, HEIGHT, WIDTH, write_json


def write_coco_stuff(root: Path) -> None:
    """Maps beside COCO's images."""
    value_png(root / 'stuffthingmaps/val2017/000000000003.png', [0, 0, 17, 156], 255)


def write_refcoco_m(root: Path) -> None:
    """Images of RefCOCO with new masks."""
    write_lines(root / 'refcoco_m/validation.jsonl', [dict(
        image_id=1, file_name='COCO_train2014_000000000001.jpg', samples=[
            dict(id=k, image_id=1, category='person', supercategory='person', label='person',
                 sentences=texts, bbox=[float(side) for side in BOXES[k]], mask=box_code(BOXES[k]))
            for k, texts in enumerate([['left one', 'man on left'], ['right one']])])])


def box_code(box: list[int]) -> dict:
    """A compressed RLE."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order='F')
    x, y, w, h = box
    mask[y:y + h, x:x + w] = 1
    code = coco_mask.encode(mask)
    return dict(size=code['size'], counts=code['counts'].decode())


def write_ref_adv(root: Path) -> None:
    """Two expressions about one image."""
    picture(root / 'images/000000581206.jpg')
    write_lines(root / 'ref_adv_s.jsonl', [
        dict(file_name='000000581206.jpg', width=WIDTH, height=HEIGHT, image_source='COCO',
             normal_caption=text, solution=[x, y, x + w, y + h], human_authored=True,
             use_negation=k == 1, distractors=[[1, 1, 5, 5], [2, 2, 6, 6]])
        for k, ((x, y, w, h), text) in enumerate(zip(BOXES, (
            'the man in red beside the tree', 'the man who does not hold a dog'), strict=False))])


def shape(label: str, x: int, y: int, w: int, h: int) -> dict:
    corners = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    return dict(label=label, labels=[label], shape_type='polygon', points=corners,
                image_name='7.jpg', group_id=None, group_ids=[None], flags={})


def write_reason_seg(root: Path) -> None:
    """A target with a smaller ignored part, a deprecated shape; one file in Windows' encoding."""
    for split in ('train', 'val', 'test'):
        name = f'7_{split}'
        picture(root / split / f'{name}.jpg')

        content = dict(
            text=['what keeps the caf\u00e9 warm?', 'the thing that gives warmth'],
            is_sentence=True, shapes=[
                shape('target', 2, 2, 12, 10), shape('ignore', 4, 4, 3, 3),
                shape('target', 20, 10, 5, 5), shape('flag', 0, 0, 29, 19)])
        encoding = 'cp1252' if split == 'test' else 'utf-8'
        (root / split / f'{name}.json').write_bytes(
            json.dumps(content, ensure_ascii=False).encode(encoding))


def write_odinw(root: Path) -> None:
    """Every folder has images and their COCO JSON."""
    for cfg in Config.fromfile(ROOT / 'configs/_base_/datasets/odinw.py')._odinw.values():
        picture(root / cfg.data_prefix.img / 'a_jpg.rf.1.jpg')
        write_json(root / cfg.ann_file, dict(
            images=[image_record('a_jpg.rf.1.jpg', 0)], annotations=objects([1, 2, 1], 0, False),
            categories=[dict(id=1, name='fish', supercategory='creatures'),
                        dict(id=2, name='shark', supercategory='creatures')]))


BENCHMARK_WRITERS = (
    ('coco', write_coco_stuff), ('refer', write_refcoco_m), ('ref_adv', write_ref_adv),
    ('ReasonSeg', write_reason_seg), ('odinw', write_odinw))
