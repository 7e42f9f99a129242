# Copyright (c) mvp_mm authors. All rights reserved.
"""How each dataset type is checked: its annotation file, and the files that this names."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mvp_mm.datasets import cityscapes, lvis
from mvp_mm.datasets.checks.coco import (
    check_box,
    check_unique,
    complete,
    image_jobs,
    load_lists,
    panoptic_jobs,
    scan_images,
    scan_objects,
)
from mvp_mm.datasets.checks.jobs import ImageJob
from mvp_mm.datasets.checks.report import Report
from mvp_mm.datasets.files import load_json, load_plain_pickle
from mvp_mm.datasets.objects365 import KNOWN_BAD, last_parts
from mvp_mm.datasets.vocabularies import load_vocabulary

_LISTS = ('images', 'annotations', 'categories')
_FILE_KEYS = ('file_name', 'height', 'width')
Scan = Callable[['Source', Report], Iterator[ImageJob]]


class Source:
    """Paths of a dataset config."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg
        self.root = Path(cfg.get('data_root') or '')
        self.ann_file = str(self.root / cfg['ann_file']) if cfg.get('ann_file') else ''

    def file(self, prefix: str, name: str) -> str:
        """A file below one of the config's folders."""
        return str(self.root / self.cfg.get('data_prefix', {}).get(prefix, '') / name)

    def image(self, record: dict[str, Any]) -> str:
        """The image of a COCO-style record."""
        return self.file('img', record['file_name'])


def _scan_boxes(source: Source, report: Report) -> Iterator[ImageJob]:
    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        images, _ = scan_objects(content, report, image_keys=_FILE_KEYS, masks=False)
        yield from image_jobs(images, {}, source.image, masks=False)


def _scan_objects365(source: Source, report: Report) -> Iterator[ImageJob]:
    def path_of(image: dict[str, Any]) -> str | None:
        if last_parts(image['file_name'], 2) in KNOWN_BAD:
            report.notes['images known to be missing or broken, left out'] += 1
            return None
        parts = source.cfg.get('path_parts', 2)
        return source.file('img', last_parts(image['file_name'], parts))

    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        images, _ = scan_objects(content, report, image_keys=_FILE_KEYS, masks=False)
        yield from image_jobs(images, {}, path_of, masks=False)


def _scan_instances(source: Source, report: Report) -> Iterator[ImageJob]:
    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        images, objects = scan_objects(content, report, image_keys=_FILE_KEYS, masks=True)
        yield from image_jobs(images, objects, source.image, masks=True)


def _scan_lvis(source: Source, report: Report) -> Iterator[ImageJob]:
    keys = ('coco_url', 'height', 'width', 'neg_category_ids', 'not_exhaustive_category_ids')
    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        images, objects = scan_objects(content, report, image_keys=keys, masks=True)
        yield from image_jobs(
            images, objects, lambda image: source.file('img', lvis.image_file(image['coco_url'])),
            masks=True)


def _scan_panoptic(source: Source, report: Report) -> Iterator[ImageJob]:
    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        yield from panoptic_jobs(content, report, source.image,
                                 lambda record: source.file('seg', record['file_name']))


def _scan_cityscapes(source: Source, report: Report) -> Iterator[ImageJob]:
    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        yield from panoptic_jobs(
            content, report,
            lambda image: source.file('img', cityscapes.image_file(image['file_name'])),
            lambda record: source.file('seg', record['file_name']))


def _scan_grounding(source: Source, report: Report) -> Iterator[ImageJob]:
    def check_spans(record: dict[str, Any], image: dict[str, Any]) -> None:
        where = f'annotation {record.get("id", "?")} of image {image["id"]}'
        spans, length = record.get('tokens_positive'), len(image['caption'])
        if not isinstance(spans, list):
            report.add('missing key', where, 'lacks tokens_positive')
        elif not spans:
            report.notes['boxes without a phrase'] += 1
        elif any(not 0 <= start < end <= length for start, end in spans):
            report.add('span outside the caption', where, f'{spans}, {length} characters')

    def path_of(image: dict[str, Any]) -> str | None:
        prefix = 'coco' if image.get('data_source') == 'coco' else 'img'
        if prefix not in source.cfg['data_prefix']:
            report.notes["images of COCO, left out for want of data_prefix['coco']"] += 1
            return None
        return source.file(prefix, image['file_name'])

    content = load_lists(source.ann_file, report, _LISTS)
    if content is not None:
        images, _ = scan_objects(content, report, image_keys=(*_FILE_KEYS, 'caption'), masks=False,
                                 categories=False, more=check_spans)
        yield from image_jobs(images, {}, path_of, masks=False)


def _scan_references(source: Source, report: Report) -> Iterator[ImageJob]:
    instances = str(source.root / source.cfg['instances_file'])
    content = load_lists(instances, report, _LISTS)
    try:
        generalized = source.cfg['type'] == 'GRefCocoDataset'
        refs = load_json(source.ann_file, list) if generalized else load_plain_pickle(
            source.ann_file)
    except (FileNotFoundError, ValueError) as error:
        report.add('annotation file', source.ann_file, str(error))
        return
    if content is None:
        return
    images, objects = scan_objects(content, report, image_keys=_FILE_KEYS, masks=True)
    keys = ('ref_id', 'image_id', 'ann_id', 'split', 'sentences')
    refs = [ref for ref in refs if complete(ref, keys, 'reference', report)]
    check_unique((ref['ref_id'] for ref in refs), 'reference', report)
    check_unique((s.get('sent_id') for ref in refs for s in ref['sentences']), 'sentence', report)
    chosen = [ref for ref in refs if ref['split'] == source.cfg.get('split', ref['split'])]
    if not chosen:
        report.add('empty split', source.ann_file, f'no reference of {source.cfg.get("split")}')
    for ref in chosen:
        _check_reference(ref, images, objects, report)
    used = {ref['image_id'] for ref in chosen}
    yield from image_jobs({k: v for k, v in images.items() if k in used}, objects, source.image,
                          masks=True)


def _check_reference(ref: dict[str, Any], images: dict, objects: dict, report: Report) -> None:
    where = f'reference {ref["ref_id"]}'
    report.counts['references of the split'] += 1
    report.counts['sentences of the split'] += len(ref['sentences'])
    if ref['image_id'] not in images:
        report.add('unknown image', where, f'names image {ref["image_id"]}')
    ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
    targets = [number for number in ids if number != -1]
    unknown = set(targets) - {r.get('id') for r in objects.get(ref['image_id'], ())}
    if unknown:
        report.add('unknown annotation', where, f'means {sorted(unknown)}, which image '
                   f'{ref["image_id"]} does not have')
    if 'no_target' in ref and bool(ref['no_target']) == bool(targets):
        report.add('contradiction', where, f'no_target is {ref["no_target"]}, ann_id {ids}')
    if not ref['sentences'] or not all(str(s.get('sent', '')).strip() for s in ref['sentences']):
        report.add('empty sentence', where, 'has a sentence without words, or none')


def _scan_coco_captions(source: Source, report: Report) -> Iterator[ImageJob]:
    content = load_lists(source.ann_file, report, ('images', 'annotations'))
    if content is None:
        return
    images = scan_images(content['images'], report, _FILE_KEYS)
    captioned = set()
    for record in content['annotations']:
        if not complete(record, ('image_id', 'caption'), 'caption', report):
            continue
        captioned.add(record['image_id'])
        where = f'caption {record.get("id", "?")}'
        if record['image_id'] not in images:
            report.add('unknown image', where, f'names image {record["image_id"]}')
        if not str(record['caption']).strip():
            report.add('empty sentence', where, 'has no words')
    for image_id in images.keys() - captioned:
        report.add('no caption', f'image {image_id}', 'has no caption')
    yield from image_jobs(images, {}, source.image, masks=False)


def _scan_chat(source: Source, report: Report) -> Iterator[ImageJob]:
    try:
        records = load_json(source.ann_file, list)
    except (FileNotFoundError, ValueError) as error:
        report.add('annotation file', source.ann_file, str(error))
        return
    report.counts['records'] += len(records)
    sound = [r for r in records if complete(r, ('id', 'image', 'conversations'), 'record', report)]
    check_unique((r['id'] for r in sound), 'record', report)
    for record in sound:
        answers = [turn.get('value') for turn in record['conversations']
                   if turn.get('from') == 'gpt']
        if len(answers) != 1 or not str(answers[0] or '').strip():
            report.add('empty sentence', f'record {record["id"]}',
                       f'must have one answer with words, has {answers}')
        yield ImageJob(path=source.file('img', record['image']), where=f'record {record["id"]}')


def _scan_lines(source: Source, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of the sound lines of a file of JSON lines."""
    if not Path(source.ann_file).is_file():
        report.add('annotation file', source.ann_file, 'does not exist')
        return
    with open(source.ann_file, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except ValueError as error:
                report.add('broken line', f'line {number}', f'is not valid JSON: {error}')
                continue
            report.counts['lines'] += 1
            yield f'line {number}', content


def _scan_odvg(source: Source, report: Report) -> Iterator[ImageJob]:
    label_map = source.cfg.get('label_map_file')
    labels = set(load_json(source.root / label_map)) if label_map else set()
    kind, items, name = ('detection', 'instances', 'label') if label_map else (
        'grounding', 'regions', 'phrase')
    for where, content in _scan_lines(source, report):
        if not complete(content, ('filename', 'height', 'width', kind), where, report):
            continue
        size = (content['height'], content['width'])
        for record in content[kind].get(items, ()):
            if not complete(record, ('bbox', name), where, report):
                continue
            if label_map and str(record['label']) not in labels:
                report.add('unknown category', where, f'names label {record["label"]}')
            several = record['bbox'] and isinstance(record['bbox'][0], list)
            for box in record['bbox'] if several else [record['bbox']]:
                report.counts['boxes'] += 1
                check_box(box, size, where, report, corners=True)
        yield ImageJob(path=source.file('img', content['filename']), where=where, size=size)


def _scan_tars(source: Source, report: Report) -> Iterator[ImageJob]:
    tar = None
    for where, content in _scan_lines(source, report):
        if 'tar' in content:
            tar = source.file('img', content['tar'])
            size = Path(tar).stat().st_size if Path(tar).is_file() else None
            if size != content.get('bytes'):
                report.add('tar file', where, f'{tar} has {size} bytes, indexed with '
                           f'{content.get("bytes")}')
                tar = None
        elif tar is not None and complete(content, ('image', 'caption'), where, report):
            name, offset, size = content['image']
            path = f'{tar}/{name}'
            yield ImageJob(path=path, where=where, tar=dict(
                img_path=path, tar_path=tar, tar_offset=offset, tar_size=size))


def _scan_semantic(source: Source, report: Report) -> Iterator[ImageJob]:
    cfg = source.cfg
    names, _ = load_vocabulary(cfg['vocabulary'])
    report.counts['classes'] = len(names)
    image_end = cfg.get('img_suffix', '.jpg')
    folder = Path(source.file('img', ''))
    if source.ann_file:
        if not Path(source.ann_file).is_file():
            report.add('annotation file', source.ann_file, 'does not exist')
            return
        lines = Path(source.ann_file).read_text(encoding='utf-8').splitlines()
        found = [line.split()[0] for line in lines if line.strip()]
    else:
        found = sorted(path.relative_to(folder).as_posix().removesuffix(image_end)
                       for path in folder.rglob(f'*{image_end}'))
    if not found:
        report.add('no image', str(folder), f'has no *{image_end}')
    report.counts['images'] += len(found)
    check_unique(found, 'image', report)
    allowed = [*cfg['values'], *cfg['ignore']]
    for name in found:
        path = source.file('seg', name + cfg.get('seg_map_suffix', '.png'))
        yield ImageJob(path=source.file('img', name + image_end), where=f'image {name}',
                       semantic=(path, allowed))


SCANS: dict[str, Scan] = dict(
    BoxDetectionDataset=_scan_boxes,
    CaptionDataset=_scan_chat,
    CityscapesPanopticDataset=_scan_cityscapes,
    CocoCaptionDataset=_scan_coco_captions,
    CocoInstanceDataset=_scan_instances,
    CocoPanopticDataset=_scan_panoptic,
    GRefCocoDataset=_scan_references,
    GroundingDataset=_scan_grounding,
    LvisDataset=_scan_lvis,
    Objects365Dataset=_scan_objects365,
    OdvgDataset=_scan_odvg,
    RefCocoDataset=_scan_references,
    SemanticMapDataset=_scan_semantic,
    TarCaptionDataset=_scan_tars)
