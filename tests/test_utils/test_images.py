# Copyright (c) mvp_mm authors. All rights reserved.
"""One reader of image files, one rule for EXIF, one limit."""
from __future__ import annotations

import io
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mvp_mm.utils.images import (
    DEFAULT_MAX_PIXELS,
    MAX_PIXELS_VARIABLE,
    decode_image,
    decode_with_header,
    max_image_pixels,
    read_image,
)

ORIENTATION = 0x0112
FORMATS = dict(JPEG=dict(quality=100, subsampling=0), MPO=dict(quality=100, subsampling=0), PNG={},
               WEBP=dict(lossless=True), TIFF={})


def pixels(height: int = 24, width: int = 40) -> np.ndarray:
    """No two corners or sides are alike; smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 8, x * 5, (x + y) * 3], axis=-1).astype(np.uint8)


def encoded(image: np.ndarray, kind: str, orientation: int | None = None) -> bytes:
    stream = io.BytesIO()
    options = dict(FORMATS.get(kind, {}))
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options['exif'] = exif if kind == 'TIFF' else exif.tobytes()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def as_shown(data: bytes) -> np.ndarray:
    """What a viewer shows, by Pillow, BGR."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape
    assert np.abs(one.astype(int) - other).max() <= 3


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_an_image_is_turned_as_a_viewer_shows_it(kind, orientation):
    data = encoded(pixels(), kind, orientation)
    image, header = decode_with_header(data, 'a')
    assert_close(image, as_shown(data))
    assert image.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))
    assert header.orientation == orientation


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_stored_pixels_are_read_on_request(kind, orientation):
    data = encoded(pixels(), kind, orientation)
    assert_close(decode_image(data, 'a', apply_exif=False), pixels()[..., ::-1])


@pytest.mark.skipif('AVIF' not in Image.registered_extensions().values(), reason='no AVIF')
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_avif_is_turned_too(orientation):
    # Its turn is a property of the container, which OpenCV does not apply.
    data = encoded(pixels(), 'AVIF', orientation)
    image = decode_image(data, 'a').astype(int)
    assert image.shape == as_shown(data).shape
    assert np.abs(image - as_shown(data)).mean() < 3


@pytest.mark.parametrize('orientation', [0, 9, 60000])
def test_an_orientation_that_means_nothing_is_none(orientation):
    assert_close(decode_image(encoded(pixels(), 'JPEG', orientation), 'a'), pixels()[..., ::-1])


def test_a_malformed_exif_block_does_no_harm():
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, 'PNG', exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    assert_close(decode_image(stream.getvalue(), 'a'), pixels()[..., ::-1])


@pytest.mark.parametrize('kind', ['TGA', 'SGI', 'PCX'])
def test_what_opencv_does_not_know_pillow_reads(kind):
    data = encoded(pixels(), kind)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None
    assert_close(decode_image(data, 'a'), pixels()[..., ::-1])


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGBA', 'CMYK'])
@pytest.mark.parametrize('kind', ['TIFF', 'PNG', 'JPEG'])
def test_every_kind_of_channels_gives_the_colours_of_pillow(kind, mode):
    stream = io.BytesIO()
    try:
        Image.fromarray(pixels()).convert(mode).save(stream, kind, **FORMATS[kind])
    except OSError:
        pytest.skip(f'{kind} has no {mode}')
    assert_close(decode_image(stream.getvalue(), 'a'), as_shown(stream.getvalue()))


@pytest.mark.parametrize('kind', ['TIFF', 'PNG'])
def test_16_bits_are_cut_to_the_upper_8(kind):
    deep = pixels()[..., 0].astype(np.uint16) * 256 + 77
    assert np.array_equal(decode_image(encoded(deep, kind), 'a')[..., 1], pixels()[..., 0])


def test_floating_point_images_are_refused():
    data = encoded(pixels()[..., 0].astype(np.float32) / 255, 'TIFF')
    with pytest.raises(ValueError, match='a.tif holds floating-point numbers'):
        decode_image(data, 'a.tif')


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'GIF', 'BMP'])
def test_a_file_cut_anywhere_is_named(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(ValueError, match='a.x is not a'):
            decode_image(data[:int(len(data) * share)], 'a.x')


@pytest.mark.parametrize(('data', 'message'), [
    (b'', 'a.jpg is empty'), (b'<html></html>', 'a.jpg is not a readable image$'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'a.jpg is not a readable image$')])
def test_what_is_no_image_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        decode_image(data, 'a.jpg')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='No such image file: .*gone.jpg'):
        read_image(tmp_path / 'gone.jpg')


@pytest.mark.parametrize('shape', [(1, 1), (1, 400), (400, 1)])
def test_strips_of_one_pixel_are_read(tmp_path, shape):
    path = tmp_path / 'strip.png'
    path.write_bytes(encoded(pixels(*shape), 'PNG'))
    assert read_image(path).shape == (*shape, 3)


def huge_png(width: int, height: int) -> bytes:
    """A header of an image that nobody wants in memory."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        for name, body in chunks)


def test_images_beyond_the_limit_are_refused_before_they_are_decoded():
    with pytest.raises(ValueError, match=f'a.png has 60000 x 60000 pixels, more than the limit of '
                                         f'{DEFAULT_MAX_PIXELS}; set {MAX_PIXELS_VARIABLE}'):
        decode_image(huge_png(60000, 60000), 'a.png')


def test_the_limit_is_settable_both_ways(monkeypatch):
    data = encoded(pixels(), 'PNG')
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, '959')
    with pytest.raises(ValueError, match='40 x 24 pixels, more than the limit of 959'):
        decode_image(data, 'a.png')
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, '960')
    assert decode_image(data, 'a.png').shape == (24, 40, 3)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(1 << 30))
    # Beyond Pillow's own limit: the header is accepted, the missing pixels are not.
    with pytest.raises(ValueError, match='is not a whole image'):
        decode_image(huge_png(20000, 20000), 'a.png')


@pytest.mark.parametrize('value', ['0', '-1', '1e9', 'many', '', str((1 << 30) + 1)])
def test_a_limit_that_is_no_limit_is_refused(monkeypatch, value):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, value)
    with pytest.raises(ValueError, match=f'{MAX_PIXELS_VARIABLE} must be a whole number from 1'):
        max_image_pixels()


def test_reading_leaves_the_limit_of_pillow_alone():
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(pixels(), 'PNG')
    threads = [threading.Thread(target=lambda: [decode_image(data, 'a') for _ in range(50)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS
