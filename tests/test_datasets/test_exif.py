# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading and checking agree on the frame in which an image is annotated."""
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from mvp_mm.datasets.checks.check import check_dataset
from mvp_mm.datasets.readers.multi_source import MultiSourceDataset
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import config, rectangle, write_json

# One white block on black: where a box of it lies tells the frame, also if the size does not.
BLOCK = (slice(3, 13), slice(6, 22))
SUFFIXES = {'.jpg': dict(quality=100), '.png': {}, '.webp': dict(lossless=True), '.tif': {}}
LOADING = [dict(type='LoadImage'), dict(type='LoadPerceptionAnnotations')]


def photo() -> np.ndarray:
    """Stored pixels, (h, w) = (24, 40)."""
    image = np.zeros((24, 40, 3), dtype=np.uint8)
    image[BLOCK] = 255
    return image


def shown(image: np.ndarray, orientation: int) -> np.ndarray:
    """The same pixels as a viewer shows them, by Pillow."""
    turned = Image.fromarray(image)
    turned.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(turned))


def annotated(root, suffix: str, orientation: int, frame: str, **changes) -> dict:
    """Config of a dataset of one photo, annotated as stored or as shown."""
    cfg = config(root, 'CocoInstanceDataset', pipeline=LOADING, test_mode=True, **changes)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo()).save(root / 'img' / f'photo{suffix}', exif=exif, **SUFFIXES[suffix])
    image = photo() if frame == 'stored' else shown(photo(), orientation)
    (y1, y2), (x1, x2) = ((int(index.min()), int(index.max()) + 1)
                          for index in np.nonzero(image[..., 0]))
    box = [x1, y1, x2 - x1, y2 - y1]
    write_json(root / 'ann.json', dict(
        images=[dict(id=1, file_name=f'photo{suffix}', height=image.shape[0],
                     width=image.shape[1])],
        annotations=[dict(id=5, image_id=1, category_id=1, bbox=box, iscrowd=0,
                          segmentation=rectangle(box))],
        categories=[dict(id=1, name='block')]))
    return cfg


def fits(results: dict) -> bool:
    """Whether box and mask are the white block."""
    white = results['img'][..., 0] > 128
    x1, y1, x2, y2 = results['gt_bboxes'].tensor[0].int().tolist()
    box = np.zeros_like(white)
    box[y1:y2, x1:x2] = True
    return bool((white == box).all() and (results['gt_masks'].masks[0] == box).all())


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_annotations_are_in_the_frame_that_the_switch_names(tmp_path, suffix, orientation):
    for frame, apply_exif in (('shown', True), ('stored', False)):
        cfg = annotated(tmp_path, suffix, orientation, frame, apply_exif=apply_exif)
        assert fits(DATASETS.build(cfg)[0])
        report = check_dataset(cfg)
        assert report.faults == []
        how = 'turned or mirrored' if apply_exif else 'read as stored'
        assert report.notes == (
            {} if orientation == 1 else {f'images with an EXIF orientation, {how}': 1})


@pytest.mark.parametrize('orientation', range(2, 9))
@pytest.mark.parametrize(('frame', 'apply_exif'), [('stored', True), ('shown', False)])
def test_the_check_finds_a_wrong_size_exactly_where_reading_refuses_it(
        tmp_path, orientation, frame, apply_exif):
    cfg = annotated(tmp_path, '.jpg', orientation, frame, apply_exif=apply_exif)
    faults = [fault.kind for fault in check_dataset(cfg).faults]
    if orientation < 5:
        # The size is the same in both frames: only the picture could tell.
        assert faults == [] and not fits(DATASETS.build(cfg)[0])
        return
    assert faults == ['image size']
    with pytest.raises(ValueError, match=r'photo.jpg is \(\d+, \d+\) \(h, w\), its annotation'):
        DATASETS.build(cfg)[0]


def test_images_are_shown_upright_unless_a_dataset_says_otherwise(tmp_path):
    assert fits(DATASETS.build(annotated(tmp_path, '.jpg', 6, 'shown'))[0])


def test_datasets_that_are_asked_together_must_agree_about_the_frame(tmp_path):
    cfg = annotated(tmp_path, '.jpg', 1, 'shown')
    joined = MultiSourceDataset([cfg, dict(cfg, apply_exif=False)], pipeline=LOADING)
    joined.test_mode = True
    with pytest.raises(ValueError, match='photo.jpg: datasets that are asked together must have'):
        joined[0]
