# Copyright (c) mvp_mm authors. All rights reserved.
"""Lists the images that a user names: files, folders, globs, addresses and images in memory."""
from __future__ import annotations

import glob
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from mvp_mm.apis.images import Channels, check_path, read_image, to_bgr
from mvp_mm.utils.images import decode_image

IMAGE_SUFFIXES = frozenset((
    '.jpg', '.jpeg', '.jpe', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.pbm',
    '.gif', '.jp2'))
_MAX_BYTES = 64 << 20
_SECONDS = 20.0


@dataclass(frozen=True)
class ImageSource:
    """One image that can be read.

    Attributes:
        name: Path, address or ``image_<number>``.
        read: Gives its pixels, (h, w, 3) uint8 BGR; picklable.
    """

    name: str
    read: Callable[[], np.ndarray]


def is_one_image(images: Any) -> bool:
    """Whether this names a single image, not a folder, a glob or several."""
    if isinstance(images, (str, Path)):
        return _is_url(images) or not (Path(images).is_dir() or _is_glob(images))
    return not isinstance(images, (list, tuple, Iterator))


def list_sources(images: Any, channels: Channels | None = None,
                 allow_urls: bool = False) -> Iterable[ImageSource]:
    """List images; a list is checked before the first one is read, an iterator as it goes.

    Args:
        images: A path, a folder (its image files in order of their names, those of its
            subfolders not), a glob (``**`` goes into subfolders), an address, a PIL image, an
            array, a tensor, or a list or iterator of these.
        channels: Order of the channels of arrays and tensors, see
            :func:`~mvp_mm.apis.images.to_bgr`.
        allow_urls: Fetch ``http://`` and ``https://`` addresses.

    Raises:
        FileNotFoundError: If a file is missing, or a folder or glob has no image.
        ValueError: If an image is none, or an address is not allowed.
    """
    if isinstance(images, Iterator):
        return (source for number, image in enumerate(images)
                for source in _sources(image, number, channels, allow_urls))
    if not isinstance(images, (list, tuple)):
        images = [images]
    return [source for number, image in enumerate(images)
            for source in _sources(image, number, channels, allow_urls)]


def _sources(image: Any, number: int, channels: Channels | None,
             allow_urls: bool) -> list[ImageSource]:
    if not isinstance(image, (str, Path)):
        name = f'image_{number}'
        pixels = to_bgr(image, name, channels)
        return [ImageSource(name, partial(_given, pixels))]
    if _is_url(image):
        if not allow_urls:
            raise ValueError(f'{image} is an address: allow_urls=True lets it be fetched')
        return [ImageSource(str(image), partial(fetch_image, str(image)))]
    if Path(image).is_dir():
        found = sorted(path for path in Path(image).iterdir()
                       if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not found:
            raise FileNotFoundError(f'No image file in the folder {image}')
    elif _is_glob(image):
        found = sorted(path for path in map(Path, glob.glob(str(image), recursive=True))
                       if path.is_file())
        if not found:
            raise FileNotFoundError(f'No file matches {image}')
    else:
        found = [check_path(image)]
    return [ImageSource(str(path), partial(read_image, path)) for path in found]


def _given(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _is_url(image: str | Path) -> bool:
    return isinstance(image, str) and urlsplit(image).scheme in ('http', 'https')


def _is_glob(image: str | Path) -> bool:
    """Whether a name is a pattern; a file of that very name is not."""
    return glob.has_magic(str(image)) and not Path(image).exists()


def fetch_image(url: str, max_bytes: int = _MAX_BYTES) -> np.ndarray:
    """Fetch and decode an image.

    Args:
        url: ``http://`` or ``https://``; redirects to either are followed.
        max_bytes: Longer answers are refused.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        ValueError: If it cannot be fetched, is too long or is no image; names the address.
    """
    content = io.BytesIO()
    try:
        with httpx.stream('GET', url, timeout=_SECONDS, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content.write(chunk)
                if content.tell() > max_bytes:
                    raise ValueError(f'{url} has more than {max_bytes} bytes')
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f'{url} cannot be fetched: {error}') from error
    return decode_image(content.getvalue(), url)
