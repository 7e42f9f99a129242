# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws scenes with numpy and OpenCV."""
from __future__ import annotations

import cv2
import numpy as np

from mvp_mm.synthetic.scene import Scene, Thing, thing_patch
from mvp_mm.synthetic.vocabulary import COLOUR_RGB, STUFF_CLASSES

OUTLINE = 0.45  # brightness of the border, relative to the fill
PALE = 0.8  # how far stripes and dots are mixed with white


def _noise(rng: np.random.Generator, height: int, width: int, sigma: tuple[float, float]
           ) -> np.ndarray:
    """Smooth noise ``(H, W)`` of unit variance; ``sigma`` is the blur in x and y, in pixels."""
    noise = rng.standard_normal((height, width), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma[0], sigmaY=sigma[1],
                             borderType=cv2.BORDER_REFLECT)
    return noise / max(float(noise.std()), 1e-6)


def draw_stuff(name: str, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Texture of one stuff kind.

    Returns:
        ``(H, W, 3)`` float32 RGB in [0, 255].
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if name == 'grass':
        shade, base = 15 * _noise(rng, height, width, (0.6, 2.2)), (112, 138, 96)
    elif name == 'water':
        bend = 3 * _noise(rng, height, width, (9, 5))
        shade = 13 * np.sin(y * 0.75 + bend + rng.uniform(0, 6.28)) + 3 * np.sin(x * 0.1 + bend)
        base = (120, 152, 172)
    elif name == 'sand':
        shade, base = 9 * _noise(rng, height, width, (0.5, 0.5)), (204, 188, 150)
    elif name == 'brick':
        course, y = np.divmod(y + rng.integers(8), 8)
        x = np.mod(x + rng.integers(16) + 8 * np.mod(course, 2), 16)
        shade = np.where((x < 1) | (y < 1), 38, 4 * _noise(rng, height, width, (1, 1)))
        base = (148, 116, 106)
    else:
        shade, base = 7 * _noise(rng, height, width, (5, 5)), (230, 234, 240)
    return np.clip(np.float32(base) + shade[..., None], 0, 255).astype(np.float32)


def draw_thing(thing: Thing, rows: slice, columns: slice) -> np.ndarray:
    """Fill of one thing in a window of the frame, texture included.

    Stripes and dots turn with the thing.

    Returns:
        ``(h, w, 3)`` float32 RGB.
    """
    y, x = np.mgrid[rows, columns].astype(np.float32) + 0.5
    colour = np.float32(COLOUR_RGB[thing.colour])
    fill = np.broadcast_to(colour, (*x.shape, 3)).copy()
    if thing.texture == 'plain':
        return fill
    x, y = x - thing.centre[0], y - thing.centre[1]
    turn = np.radians(thing.angle)
    u = np.cos(turn) * x + np.sin(turn) * y
    v = np.cos(turn) * y - np.sin(turn) * x
    period = 6.0 if thing.size == 'small' else 8.0
    if thing.texture == 'striped':
        pale = np.mod(u + v, period * 1.2) < period * 0.5
    else:
        half = period / 2
        pale = np.hypot(np.mod(u, period) - half, np.mod(v, period) - half) < period * 0.3
    fill[pale] = (1 - PALE) * colour + PALE * 255
    return fill


def render_scene(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene.

    Args:
        scene: What to draw.
        rng: Source of the ground's texture; the scene itself has no chance left in it.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    height, width = scene.height, scene.width
    image = np.zeros((height, width, 3), np.float32)
    for name in scene.stuff_areas:
        region = scene.ground == STUFF_CLASSES.index(name)
        np.copyto(image, draw_stuff(name, rng, height, width), where=region[..., None])
    kernel = np.ones((3, 3), np.uint8)
    for thing in scene.things:
        rows, columns, coverage = thing_patch(thing, height, width)
        inside = cv2.erode((coverage >= 0.5).astype(np.uint8), kernel).astype(bool)
        fill = draw_thing(thing, rows, columns)
        fill[~inside] = OUTLINE * np.float32(COLOUR_RGB[thing.colour])
        image[rows, columns] += coverage[..., None] * (fill - image[rows, columns])
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
