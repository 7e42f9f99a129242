# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads the images that a user asks about: files, PIL images, arrays and tensors."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NoReturn

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from mvp_mm.utils import images

Channels = Literal['rgb', 'bgr']
ASKED_FOR = ('an image is a path, a PIL image, an array (h, w, 3) or a tensor (3, h, w) of uint8, '
             'uint16 or floats from 0 to 1')


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


def to_bgr(image: Any, name: str, channels: Channels | None = 'bgr') -> np.ndarray:
    """Turn an image in memory into pixels, by one rule.

    - Arrays are (h, w, 3), tensors (3, h, w); grey ones have one channel or none, and of four
      channels the last, alpha, is dropped.
    - uint8 stays, uint16 is cut to its upper 8 bits as in image files, floats must lie in
      [0, 1] and are scaled to 255. Any other type is refused.
    - Whether the channels are RGB or BGR nothing in an array tells: the caller does.
    - A PIL image is turned upright by its EXIF orientation.

    Args:
        image: What the caller gave.
        name: Its name in messages.
        channels: Order of the channels of arrays and tensors; None refuses coloured ones.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        ValueError: If it is anything else; says what is asked for and what came.
    """
    if channels not in (None, 'rgb', 'bgr'):
        raise ValueError(f"channels must be 'rgb' or 'bgr', got {channels!r}")
    if isinstance(image, Image.Image):
        return _from_pil(image, name)
    if not isinstance(image, (np.ndarray, torch.Tensor)):
        _refuse(name, _describe(image), 'decode it first: cv2.imdecode'
                if isinstance(image, (bytes, bytearray)) else '')
    came = _describe(image)
    pixels = _channels_last(image, name, came)
    if not pixels.size:
        _refuse(name, came, 'it has no pixels')
    pixels = _to_bytes(pixels, name, came)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if channels is None:
        _refuse(name, came, "say which order its channels have: channels='rgb' or 'bgr'")
    pixels = np.ascontiguousarray(pixels[..., :3])
    return pixels if channels == 'bgr' else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)


def _channels_last(image: np.ndarray | torch.Tensor, name: str, came: str) -> np.ndarray:
    """(h, w, 1), (h, w, 3) or (h, w, 4) of the image's own type."""
    is_tensor = isinstance(image, torch.Tensor)
    if image.ndim == 2:
        image = image[None] if is_tensor else image[..., None]
    place = 0 if is_tensor else 2
    if image.ndim != 3 or image.shape[place] not in (1, 3, 4):
        other = image.ndim == 3 and image.shape[2 - place] in (1, 3, 4)
        _refuse(name, came, 'ask about several images with a list' if image.ndim == 4 else
                '' if not other else 'channels come first in a tensor: image.permute(2, 0, 1)'
                if is_tensor else 'channels come last: image.transpose(1, 2, 0)')
    if not isinstance(image, torch.Tensor):
        return image
    image = image.detach().cpu()
    # numpy has no bfloat16.
    image = image.float() if image.is_floating_point() else image
    return image.permute(1, 2, 0).numpy()


def _to_bytes(pixels: np.ndarray, name: str, came: str) -> np.ndarray:
    """Pixels as uint8; see :func:`to_bgr` for the rule."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if pixels.dtype.kind != 'f':
        _refuse(name, came, 'image.astype("uint8") * 255' if pixels.dtype.kind == 'b' else
                'scale it to 0 ... 255, then .astype("uint8")')
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        _refuse(name, f'{came}, values from {low:g} to {high:g}',
                'scale them to [0, 1], or to uint8')
    return (pixels * 255).round().astype(np.uint8)


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    if not (image.width and image.height):
        _refuse(name, f'a PIL image of size {image.size}', 'it has no pixels')
    try:
        upright = ImageOps.exif_transpose(image)
        if image.mode.startswith('I'):
            return np.repeat(_upper_bits(np.asarray(upright), image, name)[..., None], 3, axis=2)
        if image.mode.startswith('F'):
            _refuse(name, f'a PIL image of mode {image.mode}', 'convert it to 8 or 16 bits')
        upright = upright.convert('RGB')
    except OSError as error:
        raise ValueError(f'{name}: this PIL image cannot be read: {error}') from error
    return np.ascontiguousarray(np.asarray(upright)[..., ::-1])


def _upper_bits(grey: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    if int(grey.min()) < 0 or int(grey.max()) > 0xFFFF:
        _refuse(name, f'a PIL image of mode {image.mode}', 'it has more than 16 bits')
    return (grey >> 8).astype(np.uint8)


def _describe(image: Any) -> str:
    if isinstance(image, (np.ndarray, torch.Tensor)):
        kind = 'an array' if isinstance(image, np.ndarray) else 'a tensor'
        return f'{kind} of shape {tuple(image.shape)} and type {image.dtype}'
    return f'{type(image).__module__}.{type(image).__qualname__}'.removeprefix('builtins.')


def _refuse(name: str, came: str, advice: str) -> NoReturn:
    raise ValueError(f'{name}: {ASKED_FOR}; got {came}{f" ({advice})" if advice else ""}')
