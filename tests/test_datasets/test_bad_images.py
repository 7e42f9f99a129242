# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mvp_mm.registry import DATASETS
from mvp_mm.utils.images import decode_image
from tests.test_datasets.small_data import HEIGHT, WIDTH, make_config


def gradient():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (y * 8 + x * 3).astype(np.uint8)


def decode(path):
    return decode_image(path.read_bytes(), str(path))


@pytest.mark.parametrize('damage, message', [
    ('missing', 'does not exist'), ('empty', 'is empty'), ('truncated', 'is not a whole image'),
    ('text', 'is not a readable image')])
def test_broken_images_are_named_with_their_id(tmp_path, damage, message):
    dataset = DATASETS.build(make_config(tmp_path))
    path = tmp_path / 'img' / 'a.jpg'
    content = path.read_bytes()
    path.unlink()
    if damage != 'missing':
        path.write_bytes(dict(
            empty=b'', truncated=content[:len(content) // 2], text=b'no image')[damage])
    with pytest.raises((ValueError, OSError), match=rf'a.jpg \(image 1\) {message}'):
        dataset[0]


@pytest.mark.parametrize('file', ['folder', 'link to itself'])
def test_an_image_file_that_cannot_be_opened_is_named_with_its_id(tmp_path, file):
    dataset = DATASETS.build(make_config(tmp_path))
    path = tmp_path / 'img' / 'a.jpg'
    path.unlink()
    path.mkdir() if file == 'folder' else path.symlink_to(path.name)
    with pytest.raises(OSError, match=r'a.jpg \(image 1\) cannot be read'):
        dataset[0]


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_file_cut_anywhere_is_not_taken_for_whole(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    content = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(ValueError, match='is not a'):
            decode_image(content[:int(len(content) * share)], 'a')


def test_something_behind_the_picture_does_no_harm(tmp_path):
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), gradient())
    plain = decode(path)
    path.write_bytes(path.read_bytes() + b'trailer of a camera')
    assert np.array_equal(decode(path), plain)


def test_grey_images_get_three_channels(tmp_path):
    path = tmp_path / 'grey.png'
    Image.fromarray(gradient(), 'L').save(path)
    assert np.array_equal(decode(path), np.repeat(gradient()[..., None], 3, -1))


def test_16_bits_are_cut_to_the_upper_8(tmp_path):
    path = tmp_path / 'deep.png'
    Image.fromarray(gradient().astype(np.uint16) * 256 + 77).save(path)
    assert np.array_equal(decode(path)[..., 0], gradient())


def test_cmyk_is_converted_as_pillow_does(tmp_path):
    path = tmp_path / 'cmyk.jpg'
    colours = np.stack([gradient(), gradient()[::-1], gradient()[:, ::-1]], -1)
    Image.fromarray(colours).convert('CMYK').save(path, quality=95)
    with Image.open(path) as image:
        assert image.mode == 'CMYK'
        wanted = np.asarray(image.convert('RGB')).astype(int)
    assert np.abs(decode(path)[..., ::-1].astype(int) - wanted).max() <= 3
