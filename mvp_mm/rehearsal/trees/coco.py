# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes COCO 2017 in miniature, with what is published on its images: LVIS, COCO-Stuff."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.rehearsal.scenes import (
    Scene,
    box_records,
    draw_scene,
    image_record,
    segment_records,
    write_json,
    write_map,
    write_picture,
    write_segments,
)

# Ids between 1 and 90 that the published files do not use.
_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
THING_IDS = [number for number in range(1, 91) if number not in _UNUSED]
_STUFF = """
    92 banner; 93 blanket; 95 bridge; 100 cardboard; 107 counter; 109 curtain; 112 door-stuff;
    118 floor-wood; 119 flower; 122 fruit; 125 gravel; 128 house; 130 light; 133 mirror-stuff;
    138 net; 141 pillow; 144 platform; 145 playingfield; 147 railroad; 148 river; 149 road;
    151 roof; 154 sand; 155 sea; 156 shelf; 159 snow; 161 stairs; 166 tent; 168 towel;
    171 wall-brick; 175 wall-stone; 176 wall-tile; 177 wall-wood; 178 water-other;
    180 window-blind; 181 window-other; 184 tree-merged; 185 fence-merged; 186 ceiling-merged;
    187 sky-other-merged; 188 cabinet-merged; 189 table-merged; 190 floor-other-merged;
    191 pavement-merged; 192 mountain-merged; 193 grass-merged; 194 dirt-merged; 195 paper-merged;
    196 food-other-merged; 197 building-other-merged; 198 rock-merged; 199 wall-other-merged;
    200 rug-merged"""
_SKY, _GRASS = 187, 193
# Image 9 stands in RefCOCO's test splits, too: training leaves it out.
TRAIN, HELD_OUT, VAL = (25, 30, 34, 36), 9, (139, 285)
LVIS_CLASSES = 1203


def thing_categories() -> list[dict[str, Any]]:
    """COCO's 80 things with the ids of its files."""
    names, _ = load_vocabulary('coco_stuff_171')
    return [dict(id=number, name=name, supercategory='thing')
            for number, name in zip(THING_IDS, names[:80], strict=True)]


def stuff_categories() -> list[dict[str, Any]]:
    """COCO panoptic's 53 classes of stuff."""
    pairs = (entry.split(maxsplit=1) for entry in ' '.join(_STUFF.split()).split(';'))
    return [dict(id=int(number), name=name, supercategory='stuff', isthing=0)
            for number, name in pairs]


def write_coco(root: Path) -> None:
    """Write images, panoptic, instance and caption annotations, LVIS and COCO-Stuff."""
    for split, numbers in (('train', (*TRAIN, HELD_OUT)), ('val', VAL)):
        scenes = [draw_scene(number) for number in numbers]
        for scene in scenes:
            # Some of COCO's pictures are grey.
            write_picture(root / f'{split}2017/{_name(scene)}.jpg', scene,
                          grey=scene.number == TRAIN[-1])
        _write_panoptic(root, split, scenes)
        images = [_image(split, scene) for scene in scenes]
        write_json(root / f'annotations/instances_{split}2017.json', dict(
            info={}, licenses=[], images=images, categories=thing_categories(),
            annotations=[record for scene in scenes for record in box_records(
                scene, THING_IDS, crowd=scene.number == TRAIN[0])]))
        write_json(root / f'annotations/captions_{split}2017.json', dict(
            info={}, licenses=[], images=images, annotations=[
                dict(id=10 * scene.number + k, image_id=scene.number,
                     caption=f'{scene.caption} Photo {k}.') for scene in scenes
                for k in range(5)]))
        _write_lvis(root, split)
        _write_stuff_maps(root, split, scenes)


def _name(scene: Scene) -> str:
    return f'{scene.number:012d}'


def _image(split: str, scene: Scene) -> dict[str, Any]:
    name = f'{_name(scene)}.jpg'
    return image_record(scene, name, license=4, date_captured='2013-11-14 11:18:45', flickr_url='',
                        coco_url=f'http://images.cocodataset.org/{split}2017/{name}')


def _write_panoptic(root: Path, split: str, scenes: list[Scene]) -> None:
    annotations = []
    for scene in scenes:
        segments, records = segment_records(scene, THING_IDS, _SKY, _GRASS)
        write_segments(root / f'annotations/panoptic_{split}2017/{_name(scene)}.png', segments)
        annotations.append(dict(image_id=scene.number, file_name=f'{_name(scene)}.png',
                                segments_info=records))
    write_json(root / f'annotations/panoptic_{split}2017.json', dict(
        info={}, licenses=[], images=[_image(split, scene) for scene in scenes],
        annotations=annotations, categories=[
            *(dict(one, isthing=1) for one in thing_categories()), *stuff_categories()]))


def _write_lvis(root: Path, split: str) -> None:
    """LVIS names no files but addresses; its validation has images of both COCO folders."""
    folders = {number: 'train' for number in (*TRAIN, HELD_OUT)} | dict.fromkeys(VAL, 'val')
    numbers = TRAIN[:2] if split == 'train' else (TRAIN[-1], VAL[0])
    images, annotations = [], []
    for number in numbers:
        scene = draw_scene(number)
        record = _image(folders[number], scene)
        record.pop('file_name')
        present = {at + 1 for at in scene.classes(LVIS_CLASSES)}
        absent = [one for one in (3, 17, 250, 900, 1203) if one not in present]
        images.append(dict(record, neg_category_ids=absent[:3],
                           not_exhaustive_category_ids=sorted(present)[:1]))
        annotations += [{key: value for key, value in one.items() if key != 'iscrowd'}
                        for one in box_records(scene, list(range(1, LVIS_CLASSES + 1)))]
    frequency = 'rcf'
    names, _ = load_vocabulary('ade20k_150')
    write_json(root / f'annotations/lvis_v1_{split}.json', dict(
        info={}, licenses=[], images=images, annotations=annotations, categories=[
            dict(id=k + 1, name=f'{names[k % 150]}_({k // 150})'.replace(' ', '_'), synset='',
                 synonyms=[], frequency=frequency[k % 3], image_count=1, instance_count=1,
                 **{'def': ''}) for k in range(LVIS_CLASSES)]))


def _write_stuff_maps(root: Path, split: str, scenes: list[Scene]) -> None:
    """Values are ids less one; 255 is unlabelled."""
    for scene in scenes:
        values = [THING_IDS[at] - 1 for at in scene.classes(len(THING_IDS))]
        found: np.ndarray = scene.value_map(values, 156, 255)
        write_map(root / f'stuffthingmaps/{split}2017/{_name(scene)}.png', found)
