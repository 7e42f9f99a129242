# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes the datasets of referring expressions in miniature."""
from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from mvp_mm.rehearsal.scenes import (
    Scene,
    box_records,
    draw_scene,
    image_record,
    run_lengths,
    write_json,
    write_lines,
    write_picture,
)
from mvp_mm.rehearsal.trees.coco import HELD_OUT, THING_IDS, TRAIN, thing_categories

_SPLITS = {('refcoco', 'unc'): ('val', 'testA', 'testB'),
           ('refcoco+', 'unc'): ('val', 'testA', 'testB'),
           ('refcocog', 'umd'): ('val', 'test'), ('refcocog', 'google'): ('val', )}
_SENTENCES = ('the one on the left', 'person in red', 'the biggest thing')


def write_refer(root: Path) -> None:
    """Write RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M on COCO 2014's names."""
    train, held_out = [draw_scene(number) for number in TRAIN[:3]], draw_scene(HELD_OUT)
    scenes = [*train, held_out]
    for scene in scenes:
        write_picture(root / 'train2014' / _name(scene), scene)
    instances = dict(
        info={}, licenses=[], categories=thing_categories(),
        images=[image_record(scene, _name(scene)) for scene in scenes],
        annotations=[one for scene in scenes for one in box_records(scene, THING_IDS)])
    for at, ((name, author), splits) in enumerate(_SPLITS.items()):
        refs = [_reference(100 * at + k, scene, 'train') for k, scene in enumerate(train)]
        refs += [_reference(100 * at + 10 + k, held_out, split)
                 for k, split in enumerate(splits)]
        (root / name).mkdir(parents=True, exist_ok=True)
        # The published pickles are of protocol 2.
        (root / name / f'refs({author}).p').write_bytes(pickle.dumps(refs, protocol=2))
        write_json(root / name / 'instances.json', instances)
    write_json(root / 'grefcoco/instances.json', instances)
    write_json(root / 'grefcoco/grefs(unc).json', _generalized(train, held_out))
    _write_refcoco_m(root, held_out)


def _name(scene: Scene) -> str:
    return f'COCO_train2014_{scene.number:012d}.jpg'


def _reference(number: int, scene: Scene, split: str) -> dict[str, Any]:
    target = box_records(scene, THING_IDS)[0]
    return _ref(number, scene, split, target['id'], target['category_id'], _SENTENCES)


def _ref(number: int, scene: Scene, split: str, target: Any, category: Any,
         sentences: tuple[str, ...]) -> dict[str, Any]:
    return dict(
        ref_id=number, image_id=scene.number, ann_id=target, category_id=category, split=split,
        file_name=f'{_name(scene)[:-4]}_{number}.jpg',
        sent_ids=[10 * number + k for k in range(len(sentences))],
        sentences=[dict(sent_id=10 * number + k, sent=text, raw=text.title(), tokens=text.split())
                   for k, text in enumerate(sentences)])


def _generalized(train: list[Scene], held_out: Scene) -> list[dict[str, Any]]:
    """Expressions of several targets, of one and of none."""
    found = []
    places = [(scene, 'train') for scene in train]
    for scene, split in (*places, *((held_out, one) for one in ('val', 'testA', 'testB'))):
        records = box_records(scene, THING_IDS)
        for targets, text in ((records[:2], 'both things'), (records[:1], 'the first thing'),
                              ([], 'the green horse')):
            ids = [one['id'] for one in targets] or [-1]
            categories = [one['category_id'] for one in targets] or [-1]
            found.append(dict(_ref(len(found), scene, split, ids, categories, (text, )),
                              no_target=not targets))
    return found


def _write_refcoco_m(root: Path, scene: Scene) -> None:
    records = box_records(scene, THING_IDS)
    samples = []
    for k, one in enumerate(records):
        code = run_lengths(scene.things[k], scene.height, scene.width)
        packed = coco_mask.frPyObjects(code, scene.height, scene.width)
        samples.append(dict(
            id=k, image_id=scene.number, category='person', supercategory='person',
            label='person', sentences=list(_SENTENCES), bbox=[float(x) for x in one['bbox']],
            mask=dict(size=packed['size'], counts=packed['counts'].decode())))
    write_lines(root / 'refcoco_m/validation.jsonl',
                [dict(image_id=scene.number, file_name=_name(scene), samples=samples)])


def write_ref_adv(root: Path) -> None:
    """Write Ref-Adv: expressions among distractors."""
    scene = draw_scene(581206)
    write_picture(root / 'images/000000581206.jpg', scene)
    boxes = [[x, y, x + w, y + h] for x, y, w, h in scene.things]
    write_lines(root / 'ref_adv_s.jsonl', [
        dict(file_name='000000581206.jpg', width=scene.width, height=scene.height,
             image_source='COCO', normal_caption=text, solution=boxes[k], human_authored=True,
             use_negation=False, distractors=boxes[:k] + boxes[k + 1:])
        for k, text in enumerate(_SENTENCES[:2])])


def write_reason_seg(root: Path) -> None:
    """Write ReasonSeg: an image with its shapes beside it."""
    for split, number in (('train', 1), ('val', 2), ('test', 3)):
        scene = draw_scene(number)
        write_picture(root / split / f'{number}.jpg', scene)
        (root / split / f'{number}.json').write_text(json.dumps(dict(
            text=['the thing that keeps the rain off', 'what one sits on'], is_sentence=True,
            shapes=[_shape(label, box) for label, box in
                    zip(('target', 'ignore', 'target'), scene.things, strict=True)])))


def _shape(label: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
    x, y, w, h = box
    return dict(label=label, labels=[label], shape_type='polygon', group_id=None, flags={},
                group_ids=[None], points=[[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
