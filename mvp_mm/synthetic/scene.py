# Copyright (c) mvp_mm authors. All rights reserved.
"""Samples scenes: coloured shapes on a ground of one to three textured regions."""
from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from random import Random

import cv2
import numpy as np

from mvp_mm.synthetic.vocabulary import (
    COLOURS,
    EXTENTS,
    LONG_SIDE,
    SHORT_SIDES,
    SIZES,
    STUFF_CLASSES,
    TEXTURES,
    THING_CLASSES,
)

MIN_VISIBLE_FRACTION = 0.5
MIN_VISIBLE_PIXELS = 80
MIN_STUFF_PIXELS = 200
# Pixels that a thing may hide of another of its colour.
MAX_SAME_COLOUR_OVERLAP = 25
# The longer side of what is left to see, relative to the whole thing: keeps sizes readable.
MIN_VISIBLE_SIDE = 0.8
# Weights of 2, 3, ... 10 things; the mean is about five.
COUNT_WEIGHTS = (8, 16, 20, 19, 14, 10, 6, 4, 3)
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Thing:
    """One coloured shape.

    Attributes:
        shape, colour, size, texture: Words of the vocabulary.
        extent: Longer side of the unrotated shape in pixels.
        angle: Rotation in degrees.
        centre: ``(x, y)`` in pixels.
    """

    shape: str
    colour: str
    size: str
    texture: str
    extent: float
    angle: float
    centre: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that is true of one image.

    Attributes:
        things: Things from back to front.
        ground: ``(H, W)`` uint8, index into ``STUFF_CLASSES`` under every pixel, also where a
            thing hides it.
        instance_map: ``(H, W)`` int8, index of the visible thing, -1 where the ground shows.
    """

    things: tuple[Thing, ...]
    ground: np.ndarray
    instance_map: np.ndarray

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return self.ground.shape[0]

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return self.ground.shape[1]

    @cached_property
    def masks(self) -> np.ndarray:
        """``(n, H, W)`` bool, the visible part of each thing."""
        return self.instance_map[None] == np.arange(len(self.things))[:, None, None]

    @cached_property
    def areas(self) -> list[int]:
        """Visible pixels of each thing."""
        return [int(mask.sum()) for mask in self.masks]

    @cached_property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Box around the visible part of each thing, xyxy, right and lower edge exclusive."""
        return [mask_box(mask) for mask in self.masks]

    @cached_property
    def centres(self) -> list[tuple[float, float]]:
        """Centre ``(x, y)`` of each visible box."""
        return [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in self.boxes]

    @cached_property
    def stuff_share(self) -> list[list[float]]:
        """``[n][stuff]``: share of each thing's visible pixels that lies over each stuff kind."""
        counts = [np.bincount(self.ground[mask], minlength=len(STUFF_CLASSES))
                  for mask in self.masks]
        return [(c / c.sum()).tolist() for c in counts]

    @cached_property
    def stuff_around(self) -> list[list[float]]:
        """``[n][stuff]``: share of the pixels right around each thing that show a stuff kind."""
        shares = []
        for mask in self.masks:
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~mask
            bare = ring & (self.instance_map < 0)
            counts = np.bincount(self.ground[bare], minlength=len(STUFF_CLASSES))
            shares.append((counts / ring.sum()).tolist())
        return shares

    @cached_property
    def stuff_areas(self) -> dict[str, int]:
        """Visible pixels of each stuff kind of the image, in the vocabulary's order."""
        counts = np.bincount(self.ground[self.instance_map < 0], minlength=len(STUFF_CLASSES))
        return {name: int(n) for name, n in zip(STUFF_CLASSES, counts, strict=True) if n}

    def signature(self) -> str:
        """Digest of the layout; equal scenes have equal signatures."""
        digest = hashlib.sha1(repr((self.things, self.ground.shape)).encode())
        digest.update(self.ground.tobytes())
        return digest.hexdigest()


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight xyxy box (exclusive ends) of a non-empty ``(H, W)`` bool mask."""
    columns = np.flatnonzero(mask.any(0))
    rows = np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _unit_polygon(shape: str) -> np.ndarray:
    """Vertices ``(P, 2)`` of a shape in the box [-0.5, 0.5]², y down."""
    if shape == 'circle':
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return 0.5 * np.stack([np.cos(t), np.sin(t)], 1)
    if shape == 'square':
        return 0.45 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if shape == 'triangle':
        return np.array([[0, -0.5], [0.5, 0.42], [-0.5, 0.42]])
    if shape == 'star':
        t = -np.pi / 2 + np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 0.53, 0.235)
        return radius[:, None] * np.stack([np.cos(t), np.sin(t)], 1)
    if shape == 'cross':
        a, b = 0.17, 0.5
        return np.array([[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a],
                         [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]])
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 32, (y + 2.5) / 30], 1)


UNIT_POLYGONS = {shape: _unit_polygon(shape) for shape in THING_CLASSES}


def thing_patch(thing: Thing, height: int, width: int) -> tuple[slice, slice, np.ndarray]:
    """Share of every pixel that a thing covers, as if nothing hid it.

    Returns:
        Rows and columns of the patch within the ``height`` by ``width`` frame, and the coverage
        in it, ``(h, w)`` float32 in [0, 1]; the rest of the frame is not covered.
    """
    turn = math.radians(thing.angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    polygon = UNIT_POLYGONS[thing.shape] @ rotation * thing.extent + thing.centre
    x0, y0 = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(polygon.max(0)).astype(int) + 1, (width, height))
    s = SUPERSAMPLING
    patch = np.zeros(((y1 - y0) * s, (x1 - x0) * s), np.uint8)
    vertices = np.round((polygon - (x0, y0)) * s - 0.5).astype(np.int32)
    cv2.fillPoly(patch, [vertices], 255)
    size = (int(x1 - x0), int(y1 - y0))
    coverage = cv2.resize(patch, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1)), coverage


def thing_mask(thing: Thing, height: int, width: int) -> np.ndarray:
    """Pixels that a thing covers at least by half, ``(H, W)`` bool, as if nothing hid it."""
    mask = np.zeros((height, width), bool)
    rows, columns, coverage = thing_patch(thing, height, width)
    mask[rows, columns] = coverage >= 0.5
    return mask


def sample_ground(rng: Random, height: int, width: int) -> np.ndarray:
    """Split the image into one to three regions by straight or wavy borders.

    Returns:
        ``(H, W)`` uint8, index into ``STUFF_CLASSES``.
    """
    count = rng.choices((1, 2, 3), (20, 50, 30))[0]
    kinds = rng.sample(range(len(STUFF_CLASSES)), count)
    if count == 3 and rng.random() < 0.15:
        kinds[2] = kinds[0]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn = rng.uniform(0, math.pi)
    along = math.cos(turn) * x + math.sin(turn) * y
    across = math.cos(turn) * y - math.sin(turn) * x
    if rng.random() < 0.5:
        wavelength = rng.uniform(30, 70)
        along += rng.uniform(3, 7) * np.sin(
            across * (2 * math.pi / wavelength) + rng.uniform(0, 2 * math.pi))
    if count == 1:
        return np.full((height, width), kinds[0], np.uint8)
    if count == 2:
        border = np.quantile(along, rng.uniform(0.3, 0.7))
        return np.where(along < border, kinds[0], kinds[1]).astype(np.uint8)
    first, second = np.quantile(along, (rng.uniform(0.25, 0.38), rng.uniform(0.62, 0.75)))
    return np.select([along < first, along < second], kinds[:2], kinds[2]).astype(np.uint8)


def _sample_looks(rng: Random, placed: list[Thing]) -> tuple[str, str, str, str]:
    """Shape, colour, size and texture; often those of a thing that is there already."""
    shape, colour = rng.choice(THING_CLASSES), rng.choice(COLOURS)
    if placed and rng.random() < 0.45:
        other = rng.choice(placed)
        shape = other.shape
        if rng.random() < 0.4:
            colour = other.colour
    return shape, colour, rng.choice(SIZES), rng.choices(TEXTURES, (50, 25, 25))[0]


def _sample_thing(rng: Random, placed: list[Thing], height: int, width: int) -> Thing:
    """One thing somewhere inside the image; one in five is put right beside another."""
    shape, colour, size, texture = _sample_looks(rng, placed)
    extent = round(rng.uniform(*EXTENTS[size]), 1)
    margin = extent / 2 + 1
    x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
    if placed and rng.random() < 0.2:
        other = rng.choice(placed)
        turn = rng.uniform(0, 2 * math.pi)
        distance = (extent + other.extent) / 2 * rng.uniform(0.8, 1.0)
        x = min(max(other.centre[0] + distance * math.cos(turn), margin), width - margin)
        y = min(max(other.centre[1] + distance * math.sin(turn), margin), height - margin)
    angle = round(rng.uniform(-20, 20), 1)
    return Thing(shape, colour, size, texture, extent, angle, (round(x, 1), round(y, 1)))


def _stays_visible(whole: np.ndarray, visible: np.ndarray) -> bool:
    """Whether enough of a thing is left to recognise it and to see how large it is."""
    pixels = int(visible.sum())
    if pixels < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * int(whole.sum())):
        return False
    a, b = mask_box(whole), mask_box(visible)
    return max(b[2] - b[0], b[3] - b[1]) >= MIN_VISIBLE_SIDE * max(a[2] - a[0], a[3] - a[1])


def _place_things(
    rng: Random, count: int, height: int, width: int
) -> tuple[list[Thing], np.ndarray]:
    """Place up to ``count`` things back to front, none of them hidden too far."""
    things: list[Thing] = []
    wholes: list[np.ndarray] = []
    instance_map = np.full((height, width), -1, np.int8)
    for _ in range(count * 20):
        if len(things) == count:
            break
        thing = _sample_thing(rng, things, height, width)
        whole = thing_mask(thing, height, width)
        hidden = instance_map[whole]
        overlap = np.bincount(hidden[hidden >= 0], minlength=1)
        if rng.random() < 0.6 and overlap.sum() > 0.1 * hidden.size:
            continue
        touched = np.flatnonzero(overlap)
        blends = any(things[k].colour == thing.colour and overlap[k] > MAX_SAME_COLOUR_OVERLAP
                     for k in touched)
        if blends or hidden.size < MIN_VISIBLE_PIXELS:
            continue
        if all(_stays_visible(wholes[k], (instance_map == k) & ~whole) for k in touched):
            instance_map[whole] = len(things)
            things.append(thing)
            wholes.append(whole)
    return things, instance_map


def sample_scene(rng: Random) -> Scene:
    """Draw one scene: two to ten things and one to three regions."""
    while True:
        sides = [LONG_SIDE, rng.choice(SHORT_SIDES)]
        rng.shuffle(sides)
        height, width = sides
        ground = sample_ground(rng, height, width)
        count = rng.choices(range(2, 2 + len(COUNT_WEIGHTS)), COUNT_WEIGHTS)[0]
        things, instance_map = _place_things(rng, count, height, width)
        scene = Scene(tuple(things), ground, instance_map)
        enough_ground = min(scene.stuff_areas.values()) >= MIN_STUFF_PIXELS
        if len(things) >= 2 and enough_ground and len(scene.stuff_areas) == len(np.unique(ground)):
            return scene
