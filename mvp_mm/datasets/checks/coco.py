# Copyright (c) mvp_mm authors. All rights reserved.
"""Checks of COCO-style JSON: ids, boxes, and which files each image needs."""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mvp_mm.datasets.checks.jobs import ImageJob
from mvp_mm.datasets.checks.report import Report
from mvp_mm.datasets.files import load_json

_BORDER = 1.0


def load_lists(path: str, report: Report, keys: Sequence[str]) -> dict[str, list[dict]] | None:
    """Read a JSON file with lists of objects; None, and a fault, where it is not one."""
    try:
        content = load_json(path)
    except (FileNotFoundError, ValueError) as error:
        report.add('annotation file', path, str(error))
        return None
    missing = [key for key in keys if not isinstance(content.get(key), list)]
    if missing:
        report.add('annotation file', path, f'no list of {", ".join(missing)}')
        return None
    for key in keys:
        report.counts[key] += len(content[key])
    return content


def complete(record: Any, keys: Sequence[str], what: str, report: Report) -> bool:
    """Whether a record is an object with the keys; a fault if not."""
    if not isinstance(record, dict):
        report.add('broken record', what, f'must be an object, is a {type(record).__name__}')
        return False
    missing = [key for key in keys if key not in record]
    if missing:
        report.add('missing key', f'{what} {record.get("id", record.get("ref_id", "?"))}',
                   f'lacks {", ".join(missing)}')
    return not missing


def check_unique(values: Iterator[Any] | Sequence[Any], what: str, report: Report) -> None:
    """A fault for every value that comes again."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            report.add('duplicate id', f'{what} {value}', 'is there more than once')
        seen.add(value)


def check_box(box: Any, size: tuple[int, int], where: str, report: Report,
              corners: bool = False) -> None:
    """Check a box.

    Args:
        box: x, y, w, h.
        size: (h, w) of the image.
        where: Name of the record.
        report: Takes the faults.
        corners: The box is x1, y1, x2, y2 instead.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(
            isinstance(number, (int, float)) for number in box):
        report.add('broken box', where, f'{box}, expected four numbers')
        return
    x1, y1, x2, y2 = box if corners else (box[0], box[1], box[0] + box[2], box[1] + box[3])
    if not all(math.isfinite(number) for number in (x1, y1, x2, y2)):
        report.add('box not finite', where, str(box))
    elif x2 < x1 or y2 < y1:
        report.add('reversed box', where, str(box))
    elif x2 == x1 or y2 == y1:
        report.add('box without area', where, str(box))
    elif min(x2, size[1]) <= max(x1, 0) or min(y2, size[0]) <= max(y1, 0):
        report.add('box outside the image', where, f'{box}, the image is {size} (h, w)')
    elif min(x1, y1) < -_BORDER or x2 > size[1] + _BORDER or y2 > size[0] + _BORDER:
        report.notes['boxes that stick out of their image by more than a pixel'] += 1


def _positive_size(image: dict[str, Any], report: Report) -> bool:
    good = all(isinstance(image[key], int) and image[key] > 0 for key in ('height', 'width'))
    if not good:
        report.add('broken record', f'image {image["id"]}',
                   f'height {image["height"]}, width {image["width"]}')
    return good


def scan_images(images: list[dict], report: Report, keys: Sequence[str]) -> dict[Any, dict]:
    """Images by id; faults for broken records and for repeated ids."""
    sound = [image for image in images if complete(image, ('id', *keys), 'image', report)
             and _positive_size(image, report)]
    check_unique((image['id'] for image in sound), 'image', report)
    return {image['id']: image for image in sound}


def scan_categories(categories: list[dict], report: Report, keys: Sequence[str] = ()) -> set[Any]:
    """Category ids; faults for broken records and for repeated ids and names."""
    sound = [c for c in categories if complete(c, ('id', 'name', *keys), 'category', report)]
    check_unique((c['id'] for c in sound), 'category', report)
    check_unique((c['name'] for c in sound), 'category name', report)
    return {c['id'] for c in sound}


def scan_objects(content: dict[str, list[dict]], report: Report, *, image_keys: Sequence[str],
                 masks: bool, categories: bool = True,
                 more: Callable[[dict, dict], None] | None = None
                 ) -> tuple[dict[Any, dict], dict[Any, list[dict]]]:
    """Check images and their boxes.

    Args:
        content: The JSON file's lists.
        report: Takes the faults.
        image_keys: Keys of an image besides ``id``.
        masks: Whether annotations need ``segmentation``.
        categories: Whether annotations name a category of the file.
        more: Further check of an annotation and its image.

    Returns:
        Images by id, and sound annotations by image id.
    """
    known = scan_categories(content['categories'], report) if categories else set()
    images = scan_images(content['images'], report, image_keys)
    keys = ('image_id', 'bbox', *(('category_id',) if categories else ()),
            *(('segmentation',) if masks else ()))
    by_image: dict[Any, list[dict]] = defaultdict(list)
    ids = []
    for record in content['annotations']:
        if not complete(record, keys, 'annotation', report):
            continue
        where = f'annotation {record.get("id", "?")}'
        if 'id' in record:
            ids.append(record['id'])
        if categories and record['category_id'] not in known:
            report.add('unknown category', where, f'names category {record["category_id"]}')
        image = images.get(record['image_id'])
        if image is None:
            report.add('unknown image', where, f'names image {record["image_id"]}')
            continue
        check_box(record['bbox'], (image['height'], image['width']),
                  f'{where} of image {image["id"]}', report)
        if more is not None:
            more(record, image)
        by_image[record['image_id']].append(record)
    check_unique(ids, 'annotation', report)
    return images, by_image


def image_jobs(images: dict[Any, dict], by_image: dict[Any, list[dict]],
               path_of: Callable[[dict], str | None], masks: bool) -> Iterator[ImageJob]:
    """One job an image; none where ``path_of`` is None."""
    for image_id, image in images.items():
        path = path_of(image)
        if path is None:
            continue
        yield ImageJob(
            path=path, where=f'image {image_id}', size=(image['height'], image['width']),
            masks=[(f'annotation {r.get("id", "?")}', r['segmentation'])
                   for r in by_image.get(image_id, ())] if masks else ())


def panoptic_jobs(content: dict[str, list[dict]], report: Report, path_of: Callable[[dict], str],
                  map_of: Callable[[dict], str]) -> Iterator[ImageJob]:
    """Check a panoptic JSON; one job an annotated image."""
    known = scan_categories(content['categories'], report, ('isthing',))
    images = scan_images(content['images'], report, ('file_name', 'height', 'width'))
    annotated = []
    for annotation in content['annotations']:
        if not complete(annotation, ('image_id', 'file_name', 'segments_info'), 'annotation',
                        report):
            continue
        image = images.get(annotation['image_id'])
        if image is None:
            report.add('unknown image', f'annotation of {annotation["file_name"]}',
                       f'names image {annotation["image_id"]}')
            continue
        annotated.append(image['id'])
        ids = []
        for segment in annotation['segments_info']:
            where = f'image {image["id"]}, segment'
            if not complete(segment, ('id', 'category_id', 'bbox'), where, report):
                continue
            ids.append(segment['id'])
            where = f'{where} {segment["id"]}'
            if segment['category_id'] not in known:
                report.add('unknown category', where, f'names {segment["category_id"]}')
            check_box(segment['bbox'], (image['height'], image['width']), where, report)
        report.counts['segments'] += len(ids)
        check_unique(ids, f'image {image["id"]}, segment', report)
        yield ImageJob(
            path=path_of(image), where=f'image {image["id"]}',
            size=(image['height'], image['width']), panoptic=(map_of(annotation), ids))
    check_unique(annotated, 'annotation of image', report)
    report.notes['images without an annotation'] += len(images.keys() - set(annotated))
