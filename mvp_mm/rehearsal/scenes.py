# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws random scenes, which the fabricated datasets write in their own formats."""
from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

_SIZES = ((200, 150), (150, 200), (192, 96), (128, 128))
_CELL = 4    # objects stand in a grid of so many columns, so that none covers another
_VERBS = ('stands beside', 'is left of', 'is behind', 'is near')


@dataclass(frozen=True)
class Scene:
    """One random image and what is to be found in it.

    Attributes:
        number: Its id.
        pixels: (H, W, 3) uint8, RGB.
        things: (x, y, w, h) boxes of objects in whole pixels, none on another.
        things_of: For each object a draw from [0, 1), which chooses its class in any list.
        caption: A sentence about it.
    """

    number: int
    pixels: np.ndarray
    things: tuple[tuple[int, int, int, int], ...]
    things_of: tuple[float, ...]
    caption: str

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.shape[1]

    def classes(self, number: int) -> list[int]:
        """Choose a class of a list of ``number`` classes for each object."""
        return [int(draw * number) for draw in self.things_of]

    def value_map(self, values: Iterable[int], upper: int, lower: int) -> np.ndarray:
        """Draw a map (H, W) uint32 with a value per object, above and below the middle."""
        found = np.full((self.height, self.width), lower, dtype=np.uint32)
        found[:self.height // 2] = upper
        for (x, y, w, h), value in zip(self.things, values, strict=True):
            found[y:y + h, x:x + w] = value
        return found


def draw_scene(number: int, things: int = 3) -> Scene:
    """Draw the scene of a number; the same number, the same scene."""
    rng = Random(number)
    width, height = _SIZES[number % len(_SIZES)]
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    cell_w, cell_h = width // _CELL, height // 2
    boxes = []
    for place in sorted(rng.sample(range(_CELL * 2), things)):
        x, y = place % _CELL * cell_w + 2, place // _CELL * cell_h + 2
        w, h = rng.randint(cell_w // 2, cell_w - 4), rng.randint(cell_h // 2, cell_h - 4)
        boxes.append((x, y, w, h))
        pixels[y:y + h, x:x + w] = [rng.randrange(256) for _ in range(3)]
    return Scene(number, pixels, tuple(boxes), tuple(rng.random() for _ in boxes),
                 f'A person {rng.choice(_VERBS)} {things} things on a floor of {number} colours.')


def write_picture(path: Path, scene: Scene, grey: bool = False) -> None:
    """Save a scene's image; the format is that of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(scene.pixels)
    (image.convert('L') if grey else image).save(path)


def write_map(path: Path, values: np.ndarray, palette: bool = False) -> None:
    """Save a map of class values as PNG, in grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image = image.convert('P')
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
        image.putdata(values.flatten().tolist())
    image.save(path)


def write_segments(path: Path, ids: np.ndarray) -> None:
    """Save a map of segment ids as a panoptic PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


def write_json(path: Path, content: Any) -> None:
    """Save JSON and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """Save JSON lines and make their folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def polygon(box: tuple[int, int, int, int]) -> list[list[int]]:
    """Give a box's outline as COCO's polygons."""
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def run_lengths(box: tuple[int, int, int, int], height: int, width: int) -> dict[str, Any]:
    """Give a box as an uncompressed RLE, as COCO writes crowds."""
    mask = np.zeros((height, width), dtype=bool)
    x, y, w, h = box
    mask[y:y + h, x:x + w] = True
    flat = np.concatenate([[False], mask.flatten(order='F'), [not mask[-1, -1]]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return dict(size=[height, width],
                counts=np.diff(np.concatenate([[0], edges])).tolist())


def image_record(scene: Scene, file_name: str, number: int | str | None = None,
                 **more: Any) -> dict[str, Any]:
    """Describe an image as COCO does."""
    return dict(id=scene.number if number is None else number, file_name=file_name,
                height=scene.height, width=scene.width, **more)


def box_records(scene: Scene, category_ids: list[int], masks: bool = True, crowd: bool = False,
                number: int | str | None = None, **more: Any) -> list[dict[str, Any]]:
    """Describe a scene's objects as COCO does.

    Args:
        scene: The scene.
        category_ids: The file's ids of its classes.
        masks: Whether to write segmentations.
        crowd: Whether the last object is a crowd region, with a run-length code.
        number: Id of the image; the scene's by default.
        **more: Further keys of every record.
    """
    records = []
    last = len(scene.things) - 1
    for k, (box, at) in enumerate(zip(scene.things, scene.classes(len(category_ids)),
                                      strict=True)):
        is_crowd = crowd and k == last
        record = dict(id=100 * scene.number + k + 1, bbox=list(box), area=box[2] * box[3],
                      image_id=scene.number if number is None else number,
                      category_id=category_ids[at], iscrowd=int(is_crowd), **more)
        if masks:
            record['segmentation'] = (run_lengths(box, scene.height, scene.width) if is_crowd
                                      else polygon(box))
        records.append(record)
    return records


def segment_records(scene: Scene, things: list[int], upper: int, lower: int
                    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Describe a scene as panoptic segments.

    Args:
        scene: The scene.
        things: The file's ids of the classes of things.
        upper: That of the stuff above the middle.
        lower: That of the stuff below.

    Returns:
        Map (H, W) of segment ids, and their records.
    """
    ids = [3226956 + 70 * scene.number + k for k in range(len(scene.things))]
    above, below = 1000 + scene.number, 66000 + scene.number
    segments = scene.value_map(ids, above, below)
    categories = [things[at] for at in scene.classes(len(things))]
    records = []
    for number, category in (*zip(ids, categories, strict=True), (above, upper), (below, lower)):
        rows, columns = np.nonzero(segments == number)
        x, y = int(columns.min()), int(rows.min())
        box = [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
        records.append(dict(id=number, category_id=category, bbox=box, area=len(rows), iscrowd=0))
    return segments, records
