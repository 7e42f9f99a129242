# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads the images that a user asks about: files, PIL images and arrays."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from mvp_mm.utils import images

ASKED_FOR = ('an image is a path, a PIL image of 8 bits, or an array (h, w, 3) of uint8 in BGR '
             'order (also (h, w) grey and (h, w, 4) BGRA)')
_DEEP_MODES = ('I', 'F')


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file by the rule of :mod:`mvp_mm.utils.images`.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    path = check_path(path)
    return images.read_image(path)


def check_path(path: str | Path) -> Path:
    """Refuse the path of a missing file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no file can have that name.
    """
    path = Path(path)
    if '\0' in str(path):
        raise ValueError(f'No file is called {str(path)!r}')
    if not path.is_file():
        what = 'This is a folder, not an image file' if path.is_dir() else 'No such image file'
        raise FileNotFoundError(f'{what}: {path}')
    return path


def to_bgr(image: Any, name: str) -> np.ndarray:
    """Turn an image in memory into pixels, by one rule.

    An array of uint8 is taken as (h, w, 3) in BGR order, as OpenCV reads files; (h, w) and
    (h, w, 1) are grey, of (h, w, 4) the alpha channel is dropped. A PIL image of 8 bits is turned
    upright by its EXIF orientation and converted. Anything else is refused, for its values could
    mean several pictures.

    Args:
        image: What the caller gave.
        name: Its name in messages.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        ValueError: If it is anything else; says what is asked for and what came.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image, name)
    if not isinstance(image, np.ndarray):
        _refuse(name, _describe(image), _advice(image))
    came = f'an array of shape {image.shape} and type {image.dtype}'
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
        _refuse(name, came, 'channels come last: image.transpose(1, 2, 0)' if first else
                'ask about several images with a list' if image.ndim == 4 else '')
    if not image.size:
        _refuse(name, came, 'it has no pixels')
    if image.dtype != np.uint8:
        _refuse(name, came, {
            'f': 'numbers from 0 to 1: (image * 255).round().astype("uint8")',
            'b': 'image.astype("uint8") * 255'}.get(
                image.dtype.kind, 'scale it to 0 ... 255, then .astype("uint8")'))
    if image.ndim == 2 or channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.split(';')[0] in _DEEP_MODES:
        _refuse(name, f'a PIL image of mode {image.mode}', 'convert it to 8 bits')
    if not (image.width and image.height):
        _refuse(name, f'a PIL image of size {image.size}', 'it has no pixels')
    try:
        upright = ImageOps.exif_transpose(image).convert('RGB')
    except (OSError, ValueError) as error:
        raise ValueError(f'{name}: this PIL image cannot be read: {error}') from error
    return np.ascontiguousarray(np.asarray(upright)[..., ::-1])


def _describe(image: Any) -> str:
    if isinstance(image, torch.Tensor):
        return f'a tensor of shape {tuple(image.shape)} and type {image.dtype}'
    return f'{type(image).__module__}.{type(image).__qualname__}'.removeprefix('builtins.')


def _advice(image: Any) -> str:
    if isinstance(image, torch.Tensor):
        return 'image.cpu().numpy() of uint8, channels last'
    return 'decode it first: cv2.imdecode' if isinstance(image, (bytes, bytearray)) else ''


def _refuse(name: str, came: str, advice: str) -> None:
    raise ValueError(f'{name}: {ASKED_FOR}; got {came}{f" ({advice})" if advice else ""}')
