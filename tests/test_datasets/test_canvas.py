# Copyright (c) mvp_mm authors. All rights reserved.
"""Every image is resized to at least one pixel on each side."""
from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize as MmdetResize
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mvp_mm.datasets.tolerant import TolerantDataset
from mvp_mm.datasets.transforms import (
    ApplyView,
    PadToCanvas,
    ResizeToCanvas,
    SegmentMapMasks,
)
from mvp_mm.datasets.transforms.view import View
from mvp_mm.registry import DATASETS, TRANSFORMS
from tests.test_datasets.small_data import config, pipeline, write_images, write_json

STRIPS = [(3000, 4), (1, 4000), (300, 1), (1, 300), (1000, 3), (250, 1), (1, 1)]


def results(height: int, width: int, map_masks: bool = False) -> dict:
    rng = np.random.default_rng(0)
    segments = rng.integers(0, 3, (height, width)).astype(np.uint8)
    masks = SegmentMapMasks(segments, np.array([1, 2])) if map_masks else BitmapMasks(
        np.stack([segments == 1, segments == 2]).astype(np.uint8), height, width)
    return dict(
        img=rng.integers(0, 256, (height, width, 3), dtype=np.uint8), img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(torch.tensor([[0., 0., width, height], [0., 0., 0.5, 0.5]])),
        gt_bboxes_labels=np.arange(2), gt_seg_map=segments.copy(), gt_masks=masks)


@pytest.mark.parametrize('map_masks', [False, True])
@pytest.mark.parametrize('shape', [(48, 64), (64, 48), (33, 77), (5, 128), (200, 150), (128, 128)])
def test_images_of_usual_shapes_are_resized_as_mmdet_does(shape, map_masks):
    one = results(*shape, map_masks)
    other = copy.deepcopy(one)
    one = ResizeToCanvas((128, 128)).transform(one)
    other = MmdetResize((128, 128), keep_ratio=True).transform(other)
    assert np.array_equal(one['img'], other['img'])
    assert np.array_equal(one['gt_seg_map'], other['gt_seg_map'])
    assert torch.equal(one['gt_bboxes'].tensor, other['gt_bboxes'].tensor)
    assert np.array_equal(one['gt_masks'].to_ndarray(), other['gt_masks'].to_ndarray())
    assert one['scale_factor'] == other['scale_factor']
    assert one['img_shape'] == other['img_shape']
    assert np.array_equal(one['homography_matrix'], other['homography_matrix'])


@pytest.mark.parametrize('shape', [(90, 60), (60, 90), (64, 64), (300, 20), (20, 300), (64, 128)])
@pytest.mark.parametrize('canvas', [(128, 64), (64, 128)])
def test_portrait_and_landscape_images_fill_and_never_leave_a_canvas_that_is_not_square(
        shape, canvas):
    resized = ResizeToCanvas(canvas).transform(results(*shape))
    height, width = resized['img_shape']
    assert width <= canvas[0] and height <= canvas[1]
    assert width == canvas[0] or height == canvas[1]
    assert abs(width / height - shape[1] / shape[0]) <= 0.5 / min(width, height) * max(
        1, shape[1] / shape[0]) * 2
    padded = PadToCanvas(size=canvas).transform(resized)
    assert padded['img'].shape == (canvas[1], canvas[0], 3)
    assert padded['gt_masks'].to_ndarray().shape == (2, canvas[1], canvas[0])


def test_padding_may_be_a_list_as_in_json():
    padded = PadToCanvas(size=(64, 64), pad_val=dict(img=[1, 2, 3], masks=0)).transform(
        results(20, 64))
    assert padded['img'][-1, -1].tolist() == [1, 2, 3]


@pytest.mark.parametrize('map_masks', [False, True])
@pytest.mark.parametrize('shape', STRIPS)
def test_strips_keep_a_pixel_on_each_side(shape, map_masks):
    resized = PadToCanvas(size=(128, 128)).transform(
        ResizeToCanvas((128, 128)).transform(results(*shape, map_masks)))
    height, width = resized['img_shape']
    assert max(height, width) == 128 and min(height, width) >= 1
    assert resized['img'].shape == (128, 128, 3)
    assert resized['gt_masks'].to_ndarray().shape == (2, 128, 128)
    assert resized['scale_factor'] == (width / shape[1], height / shape[0])


@pytest.mark.parametrize('step', [
    dict(type='mmdet.Resize', scale=(128, 128)), dict(type='mmdet.Resize', scale_factor=0.1),
    dict(type='mmdet.RandomResize', scale=(128, 128), ratio_range=(1.0, 1.0),
         resize_type='mmdet.Resize')])
@pytest.mark.parametrize('map_masks', [False, True])
@pytest.mark.parametrize('shape', STRIPS)
def test_strips_keep_a_pixel_on_each_side_where_a_config_says_mmdet(shape, map_masks, step):
    resized = TRANSFORMS.build(dict(step, keep_ratio=True)).transform(results(*shape, map_masks))
    height, width = resized['img_shape']
    assert min(height, width) >= 1 and resized['img'].shape == (height, width, 3)
    assert resized['gt_masks'].to_ndarray().shape == (2, height, width)
    assert resized['gt_seg_map'].shape == (height, width)
    assert resized['scale_factor'] == (width / shape[1], height / shape[0])


@pytest.mark.parametrize('shape', STRIPS)
def test_views_of_strips_keep_a_pixel_on_each_side(shape):
    drawn = results(*shape)
    drawn['view'] = View((128, 128), scale=0.5)
    shown = ApplyView().transform(drawn)
    assert min(shown['img'].shape[:2]) >= 1
    assert shown['gt_masks'].masks.shape[1:] == shown['img'].shape[:2]


@pytest.mark.parametrize('shape', STRIPS)
def test_segment_maps_of_strips_are_rescaled(shape):
    masks = results(*shape, map_masks=True)['gt_masks'].rescale((128, 128))
    assert min(masks.height, masks.width) >= 1 and max(masks.height, masks.width) == 128


@pytest.mark.parametrize('shape', [(3000, 4), (1, 4000)])
@pytest.mark.parametrize('training', [True, False])
def test_a_strip_goes_through_the_whole_pipeline(tmp_path, shape, training):
    height, width = shape
    cfg = config(tmp_path, 'BoxDetectionDataset', pipeline=pipeline(tmp_path, training),
                 test_mode=not training, max_bad_share=0,
                 tasks=[dict(type='DetectionTask', response='none')])
    write_images(tmp_path)
    write_json(tmp_path / 'ann.json', dict(
        images=[dict(id=1, file_name='strip.png', height=height, width=width)],
        annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0,
                          bbox=[0, 0, width, height])],
        categories=[dict(id=1, name='line')]))
    cv2.imwrite(str(tmp_path / 'img/strip.png'), np.full((height, width, 3), 9, np.uint8))
    packed = DATASETS.build(cfg)[0]
    sample, = packed['data_samples']
    assert packed['inputs'].shape == (3, 64, 64)
    assert min(sample.img_shape) == 1 and len(sample.gt_instances) == 1


class UnfitDataset(TolerantDataset):
    """Its only image is one that OpenCV cannot resize."""

    def load_data_list(self):
        return [dict()]

    def prepare_data(self, idx):
        return cv2.resize(np.zeros((1000, 3, 3), np.uint8), (0, 128))


def test_an_image_that_opencv_cannot_transform_is_named_in_testing():
    dataset = UnfitDataset(ann_file='a.json', test_mode=True, pipeline=[])
    with pytest.raises(ValueError, match='UnfitDataset a.json, item 0: .*resize'):
        dataset[0]
