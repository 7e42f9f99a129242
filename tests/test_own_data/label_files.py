# Copyright (c) mvp_mm authors. All rights reserved.
"""The same few objects written in every label format."""
from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mvp_mm.own_data import LabeledDataset

CLASSES = ['cat', 'dog']
# Per image: height, width, and objects as (class, polygon).
IMAGES = {
    'one.jpg': (40, 60, [('cat', [(5., 5.), (25., 5.), (25., 30.), (5., 30.)]),
                         ('dog', [(30., 10.), (50., 10.), (40., 35.)])]),
    'two.png': (32, 48, [('dog', [(8., 4.), (24., 4.), (24., 28.), (8., 28.)])]),
    'three.png': (24, 24, []),
}


def save_images(folder: Path, images=IMAGES) -> None:
    """Save noise of the images' sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, (height, width, _)) in enumerate(images.items()):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


@dataclass(frozen=True)
class Labels:
    """Labels to write.

    Attributes:
        classes: Class names.
        images: Per file name: height, width, and objects as (class, polygon).
        save: Puts the images into a folder.
    """

    classes: list[str] = field(default_factory=lambda: CLASSES)
    images: dict[str, tuple[int, int, list]] = field(default_factory=lambda: IMAGES)
    save: Callable[[Path], None] = save_images


DRAWN = Labels()


def box_of(polygon) -> tuple[float, float, float, float]:
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def boxes_of(dataset: LabeledDataset) -> dict[str, list[tuple]]:
    """Classes and boxes by the image's name, in the order of the file."""
    return {image.path.name: [(o.label, tuple(round(v, 3) for v in o.box)) for o in image.objects]
            for image in dataset.images}


EXPECTED = {name: [(label, box_of(polygon)) for label, polygon in objects]
            for name, (_, _, objects) in IMAGES.items()}


def write_coco(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root / 'images')
    images, annotations = [], []
    for image_id, (name, (height, width, objects)) in enumerate(labels.images.items()):
        images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for label, polygon in objects:
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image_id, bbox=list(box_of(polygon)),
                category_id=labels.classes.index(label) + 1, iscrowd=0, area=1.,
                segmentation=[[v for p in polygon for v in p]]))
    categories = [dict(id=n, name=name) for n, name in enumerate(labels.classes, 1)]
    (root / 'labels.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=categories)))
    return root / 'labels.json'


def write_yolo(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root / 'images')
    (root / 'labels').mkdir()
    for name, (height, width, objects) in labels.images.items():
        lines = []
        for label, polygon in objects:
            points = [f'{x / width:.8f} {y / height:.8f}' for x, y in polygon]
            lines.append(f'{labels.classes.index(label)} {" ".join(points)}')
        if lines:
            (root / 'labels' / name).with_suffix('.txt').write_text('\n'.join(lines))
    (root / 'data.yaml').write_text(f'names: {labels.classes}\n')
    return root


def write_yolo_boxes(root: Path, labels: Labels = DRAWN) -> Path:
    write_yolo(root, labels)
    for name, (height, width, objects) in labels.images.items():
        lines = []
        for label, polygon in objects:
            x, y, w, h = box_of(polygon)
            lines.append(f'{labels.classes.index(label)} {(x + w / 2) / width:.8f} '
                         f'{(y + h / 2) / height:.8f} {w / width:.8f} {h / height:.8f}')
        (root / 'labels' / name).with_suffix('.txt').write_text('\n'.join(lines))
    return root


def write_labelme(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root)
    for name, (height, width, objects) in labels.images.items():
        shapes = [dict(label=label, points=polygon, shape_type='polygon', group_id=None)
                  for label, polygon in objects]
        (root / name).with_suffix('.json').write_text(json.dumps(dict(
            shapes=shapes, imagePath=name, imageHeight=height, imageWidth=width)))
    return root


def write_voc(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root / 'JPEGImages')
    (root / 'Annotations').mkdir()
    for name, (height, width, objects) in labels.images.items():
        nodes = ''
        for label, polygon in objects:
            x, y, w, h = box_of(polygon)
            nodes += (f'<object><name>{label}</name><bndbox><xmin>{x + 1:g}</xmin>'
                      f'<ymin>{y + 1:g}</ymin><xmax>{x + w:g}</xmax><ymax>{y + h:g}</ymax>'
                      '</bndbox></object>')
        (root / 'Annotations' / name).with_suffix('.xml').write_text(
            f'<annotation><filename>{name}</filename><size><width>{width}</width>'
            f'<height>{height}</height><depth>3</depth></size>{nodes}</annotation>')
    return root


def write_cvat(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root / 'images')
    nodes = ''
    for image_id, (name, (height, width, objects)) in enumerate(labels.images.items()):
        shapes = ''.join(
            f'<polygon label="{label}" points="{";".join(f"{x},{y}" for x, y in polygon)}"/>'
            for label, polygon in objects)
        nodes += (f'<image id="{image_id}" name="{name}" width="{width}" height="{height}">'
                  f'{shapes}</image>')
    (root / 'annotations.xml').write_text(f'<annotations>{nodes}</annotations>')
    return root


def write_csv(root: Path, labels: Labels = DRAWN) -> Path:
    labels.save(root)
    with open(root / 'expressions.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['image', 'expression', 'x', 'y', 'w', 'h'])
        for name, (_, _, objects) in labels.images.items():
            for label, polygon in objects:
                writer.writerow([name, f'the {label}', *box_of(polygon)])
                writer.writerow([name, f'a {label}, here', *box_of(polygon)])
    return root / 'expressions.csv'


WRITERS = dict(coco=write_coco, yolo=write_yolo, labelme=write_labelme, voc=write_voc,
               cvat=write_cvat, csv=write_csv)
