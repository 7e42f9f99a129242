# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes the datasets of boxes in miniature: Objects365, GoldG, ODVG, ODinW."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.rehearsal.scenes import (
    Scene,
    box_records,
    draw_scene,
    image_record,
    write_json,
    write_lines,
    write_picture,
)

_OBJECTS365 = 365
# Some of the published names are misspelt or carry spaces; no archive holds the last image.
_PUBLISHED_NAMES = {1: 'Person', 38: 'Moniter/TV', 365: 'Table Tennis '}
_TRAIN = ('images/v1/patch8/objects365_v1_00420917.jpg',
          'images/v1/patch8/objects365_v1_00420918.jpg',
          'images/v2/patch17/objects365_v2_00908730.jpg')
_NO_FILE = 'images/v1/patch6/objects365_v1_00320532.jpg'
_VAL = ('images/v1/patch0/objects365_v1_00000016.jpg',
        'images/v2/patch16/objects365_v2_00908727.jpg')
_PHRASES = 'Two people walk a dog .'
_SPANS = ([[0, 10]], [[16, 21]], [])


def object_names() -> list[str]:
    """365 different names, some of them as the published file spells them."""
    names, _ = load_vocabulary('coco_stuff_171')
    found = [f'{kind} {name}'.title() for kind in ('small', 'large', 'old') for name in names]
    return [_PUBLISHED_NAMES.get(k + 1, found[k]) for k in range(_OBJECTS365)]


def write_objects365(root: Path) -> None:
    """Write both splits, the captions of two captioners and the lines of ODVG."""
    ids = list(range(1, _OBJECTS365 + 1))
    for split, files in (('train', (*_TRAIN, _NO_FILE)), ('val', _VAL)):
        scenes = [draw_scene(400 + k) for k in range(len(files))]
        for scene, name in zip(scenes, files, strict=True):
            # The archives of the training images hold the last two folders alone.
            place = '/'.join(name.split('/')[-2:]) if split == 'train' else name
            if name != _NO_FILE:
                write_picture(root / split / place, scene)
        write_json(root / f'annotations/zhiyuan_objv2_{split}.json', dict(
            licenses=[], categories=[dict(id=number, name=name) for number, name in
                                     zip(ids, object_names(), strict=True)],
            images=[image_record(scene, name, license=5, url='')
                    for scene, name in zip(scenes, files, strict=True)],
            annotations=[one for scene in scenes for one in box_records(
                scene, ids, masks=False, isfake=0, isreflected=0)]))
    _write_detection_lines(root)


def _write_detection_lines(root: Path) -> None:
    names = [name.lower() for name in object_names()]
    write_json(root / 'annotations/o365v2_label_map.json',
               {str(k): name for k, name in enumerate(names)})
    lines = []
    for k, name in enumerate(_TRAIN):
        scene = draw_scene(400 + k)
        instances = [dict(bbox=[x, y, x + w, y + h], label=at, category=names[at])
                     for (x, y, w, h), at in zip(scene.things, scene.classes(_OBJECTS365),
                                                 strict=True)]
        lines.append(dict(filename='/'.join(name.split('/')[-2:]), height=scene.height,
                          width=scene.width, detection=dict(instances=instances)))
    write_lines(root / 'annotations/o365v2_train_odvg.jsonl', lines)


def write_goldg(root: Path) -> None:
    """Write MDETR's files of Flickr30k and of GQA without COCO's images, and ODVG's lines."""
    numbers = {'gqa/images': (2354786, 2354787), 'flickr30k/images': (1000092795, 10002456)}
    for folder, found in numbers.items():
        for number in found:
            write_picture(root / folder / f'{number}.jpg', draw_scene(number % 1000))
    for name, folder, source in (
            ('final_mixed_train_no_coco', 'gqa/images', 'vg'),
            ('final_flickr_separateGT_train', 'flickr30k/images', None),
            ('final_flickr_separateGT_val', 'flickr30k/images', None)):
        _write_phrases(root / f'annotations/{name}.json', numbers[folder], source)
    write_lines(root / 'annotations/final_flickr_separateGT_train_vg.json', [
        _grounding_line(number) for number in numbers['flickr30k/images']])


def _write_phrases(path: Path, numbers: tuple[int, ...], source: str | None) -> None:
    images, annotations = [], []
    for k, number in enumerate(numbers):
        scene = draw_scene(number % 1000)
        more: dict[str, Any] = dict(data_source=source) if source else {}
        images.append(image_record(
            scene, f'{number}.jpg', k, caption=_PHRASES, original_id=number,
            dataset_name='mixed' if source else 'flickr', tokens_negative=[[0, len(_PHRASES)]],
            **more))
        annotations += [dict(one, id=10 * k + at, tokens_positive=_SPANS[at]) for at, one in
                        enumerate(box_records(scene, [1], masks=False, number=k))]
    write_json(path, dict(
        info=[], licenses=[], images=images, annotations=annotations,
        categories=[dict(id=1, name='object', supercategory='object')]))


def _grounding_line(number: int) -> dict[str, Any]:
    scene = draw_scene(number % 1000)
    boxes = [[x, y, x + w, y + h] for x, y, w, h in scene.things]
    return dict(filename=f'{number}.jpg', height=scene.height, width=scene.width, grounding=dict(
        caption=_PHRASES, regions=[
            dict(bbox=boxes[:2], phrase='Two people', tokens_positive=[[0, 10]]),
            dict(bbox=boxes[2], phrase='a dog', tokens_positive=[[16, 21]])]))


def write_odinw(root: Path, datasets: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the folders of Object Detection in the Wild that configs name.

    Args:
        root: Folder of all of them.
        datasets: Dataset configs by name; those below ``data/odinw`` are written.
    """
    for name, cfg in datasets.items():
        if not name.startswith('odinw_'):
            continue
        scenes: list[Scene] = [draw_scene(900 + k) for k in range(2)]
        names = [f'a_jpg.rf.{scene.number}.jpg' for scene in scenes]
        for scene, file in zip(scenes, names, strict=True):
            write_picture(root / cfg['data_prefix']['img'] / file, scene)
        write_json(root / cfg['ann_file'], dict(
            images=[image_record(scene, file) for scene, file in zip(scenes, names, strict=True)],
            annotations=[one for scene in scenes for one in box_records(scene, [1, 2], False)],
            categories=[dict(id=1, name='fish', supercategory='creatures'),
                        dict(id=2, name='shark', supercategory='creatures')]))
