# Copyright (c) mvp_mm authors. All rights reserved.
"""Whatever is no picture of 8 bits is refused in one line; nothing is read as another picture."""
from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.apis.images import read_image, to_bgr

BGR = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize('view', [
    BGR, BGR[::-1, ::2], BGR[..., ::-1], np.asfortranarray(BGR),
    np.frombuffer(BGR.tobytes(), np.uint8).reshape(BGR.shape), BGR[:1, :1]])
def test_arrays_of_bytes_are_taken_as_they_are(view):
    assert np.array_equal(to_bgr(view, 'it'), view)


def test_grey_becomes_three_equal_channels():
    for grey in (BGR[..., 0], BGR[..., :1]):
        assert np.array_equal(to_bgr(grey, 'it'), np.repeat(BGR[..., :1], 3, 2))


def test_the_alpha_channel_is_dropped():
    assert np.array_equal(to_bgr(np.dstack([BGR, BGR[..., 0]]), 'it'), BGR)


@pytest.mark.parametrize('array, advice', [
    (BGR.astype(np.float32), r'values from \d+ to \d+ \(scale them'),
    (np.full((2, 2, 3), np.nan), 'float64, values from nan'), (BGR / 255 - 1, 'values from -'),
    (BGR.astype(np.int64), 'int64 .*scale it'), (BGR > 60, r'astype\("uint8"\) \* 255'),
    (BGR.astype(object), 'object'), (BGR[None], 'with a list'), (BGR[:0], 'no pixels'),
    (BGR[:, :0], 'no pixels'), (BGR.transpose(2, 0, 1), r'transpose\(1, 2, 0\)'),
    (np.zeros((6, 9, 2), np.uint8), r'\(6, 9, 2\)'), (np.uint8(3), r'numpy\.uint8'),
    (np.zeros(5, np.uint8), r'\(5,\)'), (np.array(['a.jpg']), 'shape'),
    (torch.from_numpy(BGR), r'a tensor of shape \(6, 9, 3\) and type torch.uint8 .*permute'),
    (torch.zeros(2, 3, 6, 9), 'with a list'), (torch.zeros(3, 6, 9).int(), 'torch.int32'),
    (b'\xff\xd8', 'bytes .*imdecode'), (None, 'NoneType'), (7, 'int'), ({}, 'dict')])
def test_anything_else_is_refused(array, advice):
    with pytest.raises(ValueError, match=rf'it: an image is a path, .*got .*{advice}'):
        to_bgr(array, 'it')


@pytest.mark.parametrize('same', [
    BGR / 255, (BGR / 255).astype(np.float32), BGR.astype(np.uint16) * 257,
    torch.from_numpy(BGR).permute(2, 0, 1), torch.from_numpy(BGR).permute(2, 0, 1) / 255,
    torch.from_numpy(np.dstack([BGR, BGR[..., 0]])).permute(2, 0, 1)])
def test_floats_16_bits_and_tensors_are_converted(same):
    assert np.array_equal(to_bgr(same, 'it'), BGR)


def test_half_precision_tensors_are_converted():
    image = torch.tensor([0., 0.5, 1.]).bfloat16().view(3, 1, 1)
    assert to_bgr(image, 'it').tolist() == [[[0, 128, 255]]]


def test_the_order_of_channels_is_said_or_asked_for():
    assert np.array_equal(to_bgr(BGR[..., ::-1], 'it', 'rgb'), BGR)
    alpha = np.dstack([BGR[..., ::-1], BGR[..., 0]])
    assert np.array_equal(to_bgr(alpha, 'it', 'rgb'), BGR)
    with pytest.raises(ValueError, match=r"it: .* \(say which order .*channels='rgb'"):
        to_bgr(BGR, 'it', None)
    assert to_bgr(BGR[..., 0], 'it', None).shape == BGR.shape
    with pytest.raises(ValueError, match="channels must be 'rgb' or 'bgr', got 'RGB'"):
        to_bgr(BGR, 'it', 'RGB')


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK'])
def test_pil_images_are_converted(mode):
    picture = Image.fromarray(BGR[..., ::-1]).convert(mode)
    expected = np.asarray(picture.convert('RGB'))[..., ::-1]
    assert np.array_equal(to_bgr(picture, 'it'), expected)
    assert to_bgr(picture, 'it').dtype == np.uint8


def test_pil_images_of_16_bits_are_cut_to_their_upper_8():
    deep = Image.fromarray(BGR[..., 0].astype(np.uint16) * 256 + 7)
    assert deep.mode == 'I;16'
    for picture in (deep, deep.convert('I')):
        assert np.array_equal(to_bgr(picture, 'it'), np.repeat(BGR[..., :1], 3, 2))


@pytest.mark.parametrize('picture, message', [
    (Image.new('F', (4, 4)), '8 or 16 bits'), (Image.new('I', (4, 4), 70000), 'more than 16'),
    (Image.new('I', (4, 4), -1), 'more than 16')])
def test_pil_images_of_other_numbers_are_refused(picture, message):
    with pytest.raises(ValueError, match=f'it: .* mode [IF] .*{message}'):
        to_bgr(picture, 'it')


def test_a_truncated_pil_image_is_refused():
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, 'png')
    with pytest.raises(ValueError, match='it: this PIL image cannot be read'):
        to_bgr(Image.open(io.BytesIO(file.getvalue()[:2000])), 'it')


def test_a_pil_image_is_turned_as_its_file_is(tmp_path):
    picture, exif = Image.fromarray(BGR), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / 'turned.png', exif=exif)
    opened = Image.open(tmp_path / 'turned.png')
    assert to_bgr(opened, 'it').shape == (9, 6, 3)
    assert np.array_equal(to_bgr(opened, 'it'), read_image(tmp_path / 'turned.png'))


def test_files_that_are_no_images_are_refused(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match=r'text\.png is not a readable image'):
        read_image(tmp_path / 'text.png')
    with pytest.raises(FileNotFoundError, match='No such image file'):
        read_image(tmp_path / 'missing.png')
    with pytest.raises(FileNotFoundError, match='folder, not an image'):
        read_image(tmp_path)
    with pytest.raises(ValueError, match='No file is called'):
        read_image('a\0b.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), BGR.astype(np.uint16) << 8)
    assert np.array_equal(read_image(tmp_path / 'deep.png'), BGR)
