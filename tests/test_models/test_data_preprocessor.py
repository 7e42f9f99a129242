# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from mmengine.structures import InstanceData

from mvp_mm.models import PerceptionDataPreprocessor
from mvp_mm.models.data_preprocessor import masks_on_device
from mvp_mm.structures import PerceptionDataSample

MEAN, STD = [10.0, 20.0, 30.0], [2.0, 4.0, 8.0]


def make_sample(name, masks=None):
    sample = PerceptionDataSample(metainfo=dict(img_id=name))
    sample.gt_instances = InstanceData(bboxes=torch.zeros(1, 4))
    if masks is not None:
        sample.gt_instances.masks = masks
    return sample


@pytest.fixture
def data():
    masks = torch.rand(1, 40, 50) > 0.5
    return dict(
        inputs=[torch.randint(0, 255, (3, *size), dtype=torch.uint8)
                for size in ((40, 50), (64, 33))],
        data_samples=[[make_sample('a', masks), make_sample('b')], [make_sample('c')]])


@pytest.fixture
def preprocessor():
    return PerceptionDataPreprocessor(MEAN, STD, pad_size_divisor=32)


def test_images_are_normalised_as_rgb_and_padded_with_zeros(preprocessor, data):
    images = [x.clone().float() for x in data['inputs']]
    out = preprocessor(data)['inputs']
    assert out.shape == (2, 3, 64, 64)
    for image, found in zip(images, out, strict=True):
        height, width = image.shape[1:]
        for channel in range(3):
            expected = (image[2 - channel] - MEAN[channel]) / STD[channel]
            torch.testing.assert_close(found[channel, :height, :width], expected)
        assert (found[:, height:] == 0).all() and (found[:, :, width:] == 0).all()


def test_samples_become_a_flat_list_with_the_row_of_their_image(preprocessor, data):
    samples = preprocessor(data)['data_samples']
    assert [(s.img_id, s.image_index) for s in samples] == [('a', 0), ('b', 0), ('c', 1)]
    assert all(s.batch_input_shape == (64, 64) for s in samples)


def test_masks_are_padded_to_the_canvas(preprocessor, data):
    masks = data['data_samples'][0][0].gt_instances.masks.clone()
    sample = preprocessor(data)['data_samples'][0]
    found = sample.gt_instances.masks
    assert found.shape == (1, 64, 64) and found.dtype == torch.bool
    assert torch.equal(found[:, :40, :50], masks)
    assert not found[:, 40:].any() and not found[:, :, 50:].any()


def test_samples_without_targets_pass(preprocessor, data):
    bare = PerceptionDataSample(metainfo=dict(img_id='d'))
    data['data_samples'][1].append(bare)
    assert preprocessor(data)['data_samples'][-1].image_index == 1


def of_image(path, *names):
    samples = [make_sample(name) for name in names]
    for sample in samples:
        sample.set_metainfo(dict(img_path=path))
    return samples


@pytest.mark.parametrize('groups', [[1, 1], [2, 2], [2, 1], [3, 3, 3]], ids=str)
def test_a_batch_that_was_transposed_is_refused(preprocessor, groups):
    images = [torch.zeros(3, 32, 32, dtype=torch.uint8) for _ in groups]
    grouped = [of_image(f'{i}.jpg', *range(count)) for i, count in enumerate(groups)]
    assert len(preprocessor(dict(inputs=images, data_samples=grouped))['data_samples']) == (
        sum(groups))
    # As mmengine's pseudo_collate pairs them.
    transposed = [list(group) for group in zip(*grouped, strict=False)]
    with pytest.raises(ValueError, match=r"set collate_fn=dict\(type='perception_collate'\)"):
        preprocessor(dict(inputs=images, data_samples=transposed))


def test_samples_that_are_not_grouped_by_image_are_refused(preprocessor):
    images = [torch.zeros(3, 32, 32, dtype=torch.uint8)]
    with pytest.raises(ValueError, match='1 images has data samples in 1 groups'):
        preprocessor(dict(inputs=images, data_samples=of_image('a.jpg', 'a')))


def test_of_a_sample_the_masks_alone_go_to_the_device(data):
    sample = data['data_samples'][0][0]
    moved = masks_on_device(sample, 'meta').gt_instances
    assert moved.masks.device.type == 'meta' and moved.bboxes.device.type == 'cpu'
    assert sample.gt_instances.masks.device.type == 'cpu'
