# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes the datasets of segment maps in miniature: ADE20K, Cityscapes, Pascal VOC and Context."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

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

# Ids of the labels that the benchmark evaluates, and their names in its order.
_CITY_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
_ROAD, _SKY = 7, 23
_CONTEXT_CLASSES = 459


def write_ade20k(root: Path) -> None:
    """Write the challenge's maps, and panoptic and instance files as mmdet's converter does."""
    names, is_thing = load_vocabulary('ade20k_150')
    # Classes carry their synonyms; one has a space at its end.
    full = [f'{name}, {name} of a kind' if k % 3 else name for k, name in enumerate(names)]
    full[-1] += ' '
    things = [k for k, flag in enumerate(is_thing) if flag]
    categories = [dict(id=k, name=name, isthing=int(flag), color=[k, 0, 0])
                  for k, (name, flag) in enumerate(zip(full, is_thing, strict=True))]
    for split, folder in (('train', 'training'), ('val', 'validation')):
        scenes = {f'ADE_{split}_{k:08d}': draw_scene(50 + k) for k in (1, 2)}
        annotations = []
        for name, scene in scenes.items():
            write_picture(root / f'images/{folder}/{name}.jpg', scene)
            values = [things[at] + 1 for at in scene.classes(len(things))]
            write_map(root / f'annotations/{folder}/{name}.png', scene.value_map(values, 3, 0))
            segments, records = segment_records(scene, things, 2, 3)
            write_segments(root / f'ade20k_panoptic_{split}/{name}.png', segments)
            annotations.append(dict(image_id=name, file_name=f'{name}.png',
                                    segments_info=records))
        write_json(root / f'ade20k_panoptic_{split}.json', dict(
            images=[image_record(scene, f'{name}.jpg', name) for name, scene in scenes.items()],
            annotations=annotations, categories=categories))
        write_json(root / f'ade20k_instance_{split}.json', dict(
            images=[image_record(scene, f'{name}.jpg') for name, scene in scenes.items()],
            annotations=[one for scene in scenes.values()
                         for one in box_records(scene, list(range(len(things))))],
            categories=[dict(id=k, name=full[at]) for k, at in enumerate(things)]))


def write_cityscapes(root: Path) -> None:
    """Write maps of both kinds of ids, cityscapesScripts' panoptic and mmdet's instance files."""
    names, is_thing = load_vocabulary('cityscapes_19')
    categories: list[dict[str, Any]] = [
        dict(id=number, name=name, supercategory='', color=[0, 0, 0], isthing=int(flag))
        for number, name, flag in zip(_CITY_IDS, names, is_thing, strict=True)]
    things = [one['id'] for one in categories if one['isthing']]
    for split, city in (('train', 'aachen'), ('val', 'frankfurt')):
        scenes = {f'{city}_000000_{k:06d}': draw_scene(60 + k) for k in (294, 576)}
        for name, scene in scenes.items():
            write_picture(root / f'leftImg8bit/{split}/{city}/{name}_leftImg8bit.png', scene)
            place = root / f'gtFine/{split}/{city}'
            values = [things[at] for at in scene.classes(len(things))]
            write_map(place / f'{name}_gtFine_labelIds.png', scene.value_map(values, _SKY, 3))
            trained = [_CITY_IDS.index(value) for value in values]
            write_map(place / f'{name}_gtFine_labelTrainIds.png',
                      scene.value_map(trained, _CITY_IDS.index(_SKY), 255))
        _write_city_files(root, split, city, scenes, categories, things)


def _write_city_files(root: Path, split: str, city: str, scenes: dict[str, Scene],
                      categories: list[dict[str, Any]], things: list[int]) -> None:
    annotations = []
    for name, scene in scenes.items():
        segments, records = segment_records(scene, things, _SKY, _ROAD)
        file = f'{name}_gtFine_panoptic.png'
        write_segments(root / f'gtFine/cityscapes_panoptic_{split}/{file}', segments)
        annotations.append(dict(image_id=name, file_name=file, segments_info=records))
    # cityscapesScripts writes this name, which no image has.
    write_json(root / f'gtFine/cityscapes_panoptic_{split}.json', dict(
        images=[image_record(scene, f'{name}_gtFine_leftImg8bit.png', name)
                for name, scene in scenes.items()],
        annotations=annotations, categories=categories))
    write_json(root / f'annotations/instancesonly_filtered_gtFine_{split}.json', dict(
        images=[image_record(scene, f'{city}/{name}_leftImg8bit.png', segm_file='')
                for name, scene in scenes.items()],
        annotations=[one for scene in scenes.values() for one in box_records(scene, things)],
        categories=[one for one in categories if one['isthing']]))


def write_voc(root: Path) -> None:
    """Write VOC 2012's maps with their palette, and Context's ``.mat`` files of 459 classes."""
    voc, context = root / 'VOC2012', root / 'VOC2010'
    for k, name in enumerate(('2007_000033', '2007_000042')):
        scene = draw_scene(70 + k)
        write_picture(voc / f'JPEGImages/{name}.jpg', scene)
        found = scene.value_map([at + 1 for at in scene.classes(20)], 0, 255)
        write_map(voc / f'SegmentationClass/{name}.png', found, palette=True)
    _write_list(voc / 'ImageSets/Segmentation/val.txt', ('2007_000033', '2007_000042'))
    numbers = ('2008_000002', '2008_000003')
    for k, name in enumerate(numbers):
        scene = draw_scene(80 + k)
        write_picture(context / f'JPEGImages/{name}.jpg', scene)
        listed = scene.value_map(scene.classes(59), 48, 255)
        write_map(context / f'annotations_detectron2/pc59_val/{name}.png', listed)
        values = [at + 1 for at in scene.classes(_CONTEXT_CLASSES)]
        (context / 'trainval').mkdir(parents=True, exist_ok=True)
        savemat(context / f'trainval/{name}.mat',
                dict(LabelMap=scene.value_map(values, 360, 2).astype(np.uint16)))
    for file in ('ImageSets/SegmentationContext/val.txt', 'pascalcontext_val.txt'):
        _write_list(context / file, numbers)


def _write_list(path: Path, names: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name}\n' for name in names))
