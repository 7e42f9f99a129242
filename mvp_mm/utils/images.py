# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads image files; training, checks, inference and captioning all read them here.

Images are turned as a viewer shows them (EXIF orientation 2 to 8), and annotations count pixels in
that frame. Who has annotations of the stored pixels says ``apply_exif=False``.
"""
from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

MAX_PIXELS_VARIABLE = 'MVP_MM_MAX_IMAGE_PIXELS'
# Pillow's own limit: about half a gigabyte as uint8 BGR.
DEFAULT_MAX_PIXELS = 178_956_970
# OpenCV refuses more, whatever is asked for.
_OPENCV_MAX_PIXELS = 1 << 30

_ENDINGS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND\xaeB`\x82'}
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError)
# Orientation by which an image goes back to how it is stored.
_INVERSE = {6: 8, 8: 6}
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before it is decoded.

    Attributes:
        size: (h, w) of the stored pixels.
        format: Pillow's name of the file format, such as ``'JPEG'``.
        mode: Pillow's name of the stored channels, such as ``'RGB'``, ``'L'`` or ``'I;16'``.
        orientation: EXIF orientation, 1 (as stored) to 8.
    """

    size: tuple[int, int]
    format: str
    mode: str
    orientation: int


def max_image_pixels() -> int:
    """Largest number of pixels that an image may have.

    It is :data:`DEFAULT_MAX_PIXELS` unless the environment variable ``MVP_MM_MAX_IMAGE_PIXELS``
    gives another, at most 2^30.

    Raises:
        ValueError: If the variable holds no such number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    limit = int(text) if text.isdecimal() else 0
    if not 1 <= limit <= _OPENCV_MAX_PIXELS:
        raise ValueError(f'{MAX_PIXELS_VARIABLE} must be a whole number from 1 to '
                         f'{_OPENCV_MAX_PIXELS}, got {text!r}')
    return limit


def read_image(path: str | Path, apply_exif: bool = True) -> np.ndarray:
    """Read an image file (see :func:`decode_image`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a whole image or has too many pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'No such image file: {path}')
    return decode_image(path.read_bytes(), str(path), apply_exif)


def read_size(path: str | Path, apply_exif: bool = True) -> tuple[int, int]:
    """Read the size of the array that :func:`read_image` would return, without decoding it.

    Returns:
        (h, w).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image or has too many pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'No such image file: {path}')
    with open(path, 'rb') as file:
        header = _read_header(file, str(path))
    return header.size[::-1] if apply_exif and header.orientation >= 5 else header.size


def decode_image(data: bytes, name: str, apply_exif: bool = True) -> np.ndarray:
    """Decode an image of any kind to colour.

    Grey images get three equal channels, CMYK is converted, 16 bits are cut to their upper 8,
    transparency is dropped; of several frames the first is read.

    Args:
        data: The file's content.
        name: The file's name, for messages.
        apply_exif: Whether the image is turned as its EXIF orientation says; if not, its pixels
            stay as they are stored.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        ValueError: If the file is empty, truncated or no image, or has more pixels than
            :func:`max_image_pixels`.
    """
    return decode_with_header(data, name, apply_exif)[0]


def decode_with_header(data: bytes, name: str,
                       apply_exif: bool = True) -> tuple[np.ndarray, ImageHeader]:
    """:func:`decode_image`, with what the file says about its image."""
    if not data:
        raise ValueError(f'{name} is empty')
    header = _read_header(io.BytesIO(data), name)
    if header.mode == 'F':
        raise ValueError(f'{name} holds floating-point numbers, whose range nothing tells: '
                         'convert it to 8 or 16 bits')
    ending = _ENDINGS.get(data[:2])
    # OpenCV fills up what a truncated file lacks. Files with something behind the picture are
    # whole all the same: only these are decoded twice.
    if ending and not data.rstrip(b'\0').endswith(ending):
        _decode_with_pillow(data, name)
    image = _decode_with_opencv(data)
    if image is None:
        image = _decode_with_pillow(data, name)
    # Both decoders turn TIFFs and nothing else.
    turned = header.format == 'TIFF'
    if apply_exif and not turned:
        image = _turn(image, header.orientation)
    elif turned and not apply_exif:
        image = _turn(image, _INVERSE.get(header.orientation, header.orientation))
    return image, header


def _read_header(file: BinaryIO, name: str) -> ImageHeader:
    limit = max_image_pixels()
    try:
        with _open(file) as image:
            orientation = _orientation(image)
            width, height = image.size
            if image.format == 'TIFF' and orientation >= 5:
                # Pillow tells the size that such an image will have once it is turned.
                width, height = height, width
            header = ImageHeader((height, width), image.format or '', image.mode, orientation)
    except UnidentifiedImageError as error:
        raise ValueError(f'{name} is not a readable image') from error
    except _PILLOW_ERRORS as error:
        raise ValueError(f'{name} is not a readable image: {error}') from error
    if width * height > limit:
        raise ValueError(f'{name} has {width} x {height} pixels, more than the limit of {limit}; '
                         f'set {MAX_PIXELS_VARIABLE} to read it')
    return header


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 where there is none that means anything."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(ExifTags.Base.Orientation)
    elif 'exif' in image.info:
        exif = Image.Exif()
        try:
            exif.load(image.info['exif'])
            value = exif.get(ExifTags.Base.Orientation)
        except Exception:  # A malformed block raises nearly any type; viewers ignore it.
            value = None
    else:
        return 1
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _open(file: BinaryIO) -> Image.Image:
    """Read a header; the limit here is :func:`max_image_pixels`, not Pillow's."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8),
                            cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _decode_with_pillow(data: bytes, name: str) -> np.ndarray:
    """Decode what OpenCV does not know, and find out whether a file is whole."""
    # A file cut off at its end must not pass for a whole one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with _open(io.BytesIO(data)) as image:
            image.load()
            if image.mode.startswith('I'):
                # Pillow would cut 16 bits off at 255.
                grey = np.asarray(image) >> 8
                if grey.max() > 255:
                    raise ValueError('it has more than 16 bits')
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
            return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
    except _PILLOW_ERRORS as error:
        raise ValueError(f'{name} is not a whole image: {error}') from error


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels to how a viewer shows them."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
