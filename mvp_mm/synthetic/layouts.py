# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes annotations of scenes in the published datasets' formats."""
from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api

from mvp_mm.synthetic.captions import caption_store_entry, full_caption, grounded_caption
from mvp_mm.synthetic.referring import Sentence, sample_groups, sample_references
from mvp_mm.synthetic.scene import Scene
from mvp_mm.synthetic.vocabulary import (
    CAPTIONERS,
    IMAGE_ID_OFFSET,
    SPLITS,
    STUFF_CLASSES,
    STUFF_IDS,
    THING_IDS,
)

INSTRUCTION = '<image>\nDescribe the image.'
INFO = {'description': 'mvp_mm synthetic world', 'version': '1.0', 'year': 2025}
LICENSES = [{'id': 1, 'name': 'Public domain', 'url': ''}]
# Ids of annotations leave room for the things and sentences of one image.
IDS_PER_IMAGE = 100
POLYGON_IOU = 0.98
BOUNDARY_STEPS = 8

Record = dict[str, Any]


def image_id(split: str, index: int) -> int:
    """Id of an image, unique over the splits."""
    return IMAGE_ID_OFFSET[split] + index + 1


def file_name(number: int) -> str:
    """File name of an image, twelve digits as in COCO."""
    return f'{number:012d}.jpg'


def annotation_id(number: int, k: int) -> int:
    """Id of thing ``k`` of an image in every file that lists things."""
    return number * IDS_PER_IMAGE + k


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of an ``(H, W)`` bool mask, ready for JSON."""
    rle = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': [int(n) for n in rle['size']], 'counts': rle['counts'].decode()}


def segmentation_of(mask: np.ndarray) -> list[list[float]] | dict[str, Any]:
    """Polygons of a mask where they reproduce it nearly exactly, RLE elsewhere (holes)."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, x0 = int(rows[0]), int(columns[0])
    window = mask[y0:rows[-1] + 1, x0:columns[-1] + 1].astype(np.uint8)
    # Contours run through pixel centres; on a finer grid they come close to the pixels' edges.
    fine = window.repeat(BOUNDARY_STEPS, 0).repeat(BOUNDARY_STEPS, 1)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [np.round((c[:, 0] + 0.5) / BOUNDARY_STEPS + (x0, y0), 2).ravel().tolist()
                for c in contours]
    rle = encode_mask(mask)
    if min(map(len, polygons)) < 6:
        return rle
    drawn = mask_api.merge(mask_api.frPyObjects(polygons, height, width))
    return polygons if mask_api.iou([drawn], [rle], [0])[0, 0] >= POLYGON_IOU else rle


def xywh(box: tuple[int, int, int, int]) -> list[int]:
    """COCO box of an xyxy box."""
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def panoptic_record(scene: Scene, number: int, rng: Random) -> tuple[Record, np.ndarray]:
    """Panoptic annotation of a scene.

    Returns:
        The entry of the JSON file, and the ``(H, W, 3)`` uint8 RGB image of the ids.
    """
    masks = [(THING_IDS[thing.shape], mask)
             for thing, mask in zip(scene.things, scene.masks, strict=True)]
    bare = scene.instance_map < 0
    masks += [(STUFF_IDS[name], bare & (scene.ground == STUFF_CLASSES.index(name)))
              for name in scene.stuff_areas]
    ids = np.zeros((scene.height, scene.width), np.uint32)
    segments = []
    for segment_id, (category_id, mask) in zip(
            rng.sample(range(1, 256 ** 3), len(masks)), masks, strict=True):
        ids[mask] = segment_id
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        segments.append({'id': segment_id, 'category_id': category_id, 'iscrowd': 0,
                         'bbox': [x, y, w, h], 'area': int(mask.sum())})
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    name = file_name(number)
    return {'segments_info': segments, 'file_name': name.replace('.jpg', '.png'),
            'image_id': number}, png


def instance_records(scene: Scene, number: int) -> list[Record]:
    """COCO annotations of the things, visible masks."""
    return [{'id': annotation_id(number, k), 'image_id': number,
             'category_id': THING_IDS[thing.shape], 'bbox': xywh(scene.boxes[k]),
             'area': scene.areas[k], 'segmentation': segmentation_of(scene.masks[k]),
             'iscrowd': 0} for k, thing in enumerate(scene.things)]


def grounding_records(scene: Scene, image: Record, rng: Random) -> tuple[Record, list[Record]]:
    """GoldG image entry with its caption, and a box per grounded thing."""
    caption, spans = grounded_caption(scene, rng)
    entry = {**image, 'caption': caption, 'original_img_id': image['id'],
             'data_source': 'synthetic', 'dataset_name': 'synthetic',
             'tokens_negative': [[0, len(caption)]]}
    boxes = []
    for start, end, members in spans:
        for k in members:
            box = xywh(scene.boxes[k])
            boxes.append({'id': annotation_id(image['id'], k), 'image_id': image['id'],
                          'category_id': 1, 'bbox': box, 'area': box[2] * box[3],
                          'iscrowd': 0, 'tokens_positive': [[start, end]]})
    return entry, boxes


def _sentence_records(sentences: list[Sentence], first_id: int) -> list[Record]:
    return [{'sent_id': first_id + n, 'sent': s.text, 'raw': s.text, 'tokens': s.text.split(),
             'kind': s.kind} for n, s in enumerate(sentences)]


def reference_records(scene: Scene, split: str, number: int, rng: Random) -> list[Record]:
    """RefCOCO references of one image."""
    records = []
    first = number * IDS_PER_IMAGE
    for k, sentences in sample_references(scene, rng):
        ann = annotation_id(number, k)
        entries = _sentence_records(sentences, first)
        first += len(entries)
        records.append({'ref_id': ann, 'ann_id': ann,
                        'category_id': THING_IDS[scene.things[k].shape],
                        'image_id': number, 'split': split,
                        'file_name': f'COCO_train2014_{number:012d}_{ann}.jpg',
                        'sentences': entries, 'sent_ids': [e['sent_id'] for e in entries]})
    return records


def group_records(scene: Scene, split: str, number: int, rng: Random) -> list[Record]:
    """gRefCOCO references of one image, one sentence each."""
    records = []
    for n, sentence in enumerate(sample_groups(scene, rng)):
        targets = sorted(sentence.targets)
        number_of_ref = number * IDS_PER_IMAGE + n
        records.append({
            'ref_id': number_of_ref, 'image_id': number, 'split': split,
            'file_name': f'{split}/{file_name(number)}',
            'ann_id': [annotation_id(number, k) for k in targets] or [-1],
            'category_id': [THING_IDS[scene.things[k].shape] for k in targets] or [-1],
            'no_target': not targets,
            'sentences': _sentence_records([sentence], number_of_ref),
            'sent_ids': [number_of_ref]})
    return records


def annotate(scene: Scene, split: str, index: int, rng: Random) -> tuple[Record, np.ndarray]:
    """Every annotation of one scene.

    Returns:
        Entries by file, as ``write_annotations`` wants them, and the panoptic PNG's pixels.
    """
    number = image_id(split, index)
    image = {'id': number, 'file_name': file_name(number), 'height': scene.height,
             'width': scene.width, 'license': 1}
    panoptic, png = panoptic_record(scene, number, rng)
    instances = instance_records(scene, number)
    grounding_image, grounding = grounding_records(scene, image, rng)
    captions, planted = caption_store_entry(scene, rng)
    chat = [{'from': 'human', 'value': INSTRUCTION},
            {'from': 'gpt', 'value': full_caption(scene, rng)}]
    record = {
        'signature': scene.signature(), 'image': image, 'panoptic': panoptic,
        'instances': instances, 'grounding_image': grounding_image, 'grounding': grounding,
        'captions': captions, 'planted': planted,
        'chat': {'id': f'{number:012d}', 'image': f"images/{split}/{image['file_name']}",
                 'conversations': chat},
        'refs': reference_records(scene, split, number, rng),
        'groups': group_records(scene, split, number, rng)}
    return record, png


def categories(with_stuff: bool) -> list[Record]:
    """Category entries; only panoptic files carry stuff and ``isthing``."""
    things = [{'supercategory': 'shape', 'id': n, 'name': name} for name, n in THING_IDS.items()]
    if not with_stuff:
        return things
    stuff = [{'supercategory': 'ground', 'isthing': 0, 'id': n, 'name': name}
             for name, n in STUFF_IDS.items()]
    return [{**entry, 'isthing': 1} for entry in things] + stuff


def _flatten(records: list[Record], key: str) -> list[Record]:
    return [entry for record in records for entry in record[key]]


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_split(out: Path, split: str, records: list[Record]) -> None:
    """Files that hold one split."""
    folder = out / 'annotations'
    images = [record['image'] for record in records]
    instances = _flatten(records, 'instances')
    head = {'info': INFO, 'licenses': LICENSES}
    _write_json(folder / f'panoptic_{split}.json', {
        **head, 'images': images, 'annotations': [r['panoptic'] for r in records],
        'categories': categories(with_stuff=True)})
    _write_json(folder / f'instances_{split}.json', {
        **head, 'images': images, 'annotations': instances,
        'categories': categories(with_stuff=False)})
    boxes = [{**{k: v for k, v in a.items() if k != 'segmentation'},
              'area': a['bbox'][2] * a['bbox'][3]} for a in instances]
    _write_json(folder / f'objects365_{split}.json', {
        **head, 'images': images, 'annotations': boxes,
        'categories': categories(with_stuff=False)})
    _write_json(folder / f'grounding_{split}.json', {
        **head, 'images': [r['grounding_image'] for r in records],
        'annotations': _flatten(records, 'grounding'),
        'categories': [{'supercategory': 'object', 'id': 1, 'name': 'object'}]})
    _write_json(folder / f'captions_{split}.json', [r['chat'] for r in records])
    names = [image['file_name'] for image in images]
    _write_json(out / 'captions' / f'{split}.json', {
        'captioners': list(CAPTIONERS),
        'captions': {n: r['captions'] for n, r in zip(names, records, strict=True)}})
    _write_json(out / 'captions' / f'{split}_planted.json', {
        n: r['planted'] for n, r in zip(names, records, strict=True) if r['planted']})


def write_annotations(out: Path, records: dict[str, list[Record]]) -> None:
    """Write every annotation file of the world.

    Args:
        out: Root of the world.
        records: Per split the entries that ``annotate`` made, in the order of the images.
    """
    for split in SPLITS:
        _write_split(out, split, records[split])
    images = [{**r['image'], 'file_name': f"{split}/{r['image']['file_name']}"}
              for split in SPLITS for r in records[split]]
    every = [record for split in SPLITS for record in records[split]]
    instances = {'info': INFO, 'licenses': LICENSES, 'images': images,
                 'annotations': _flatten(every, 'instances'),
                 'categories': categories(with_stuff=False)}
    for name in ('refcoco', 'grefcoco'):
        _write_json(out / 'refer' / name / 'instances.json', instances)
    # A pickle's bytes tell which strings are one object; a pass through JSON makes that the same
    # whether the entries came from this process or from workers.
    refs = json.loads(json.dumps(_flatten(every, 'refs')))
    (out / 'refer' / 'refcoco' / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=4))
    _write_json(out / 'refer' / 'grefcoco' / 'grefs(unc).json', _flatten(every, 'groups'))


def write_image(path: Path, pixels: np.ndarray, options: Iterable[int] = ()) -> None:
    """Write ``(H, W, 3)`` uint8 RGB; the ending of the name says how."""
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]), list(options)):
        raise OSError(f'cannot write image {path}')
