# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mvp_mm.datasets import perception_collate
from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.datasets.transforms.sample_random import SampleGenerator
from mvp_mm.registry import DATASETS
from mvp_mm.utils.masks import number_segments, read_segment_map
from tests.test_datasets.small_data import (
    BOXES,
    CATEGORIES,
    HEIGHT,
    WIDTH,
    config,
    instances,
    pipeline,
    write_json,
)

WORD = dict(response='none')


def build(root, kind, tasks, training=False, **changes):
    return DATASETS.build(config(root, kind, tasks=tasks, pipeline=pipeline(root, training),
                                 test_mode=not training, **changes))


def test_panoptic_item_in_evaluation(tmp_path):
    item = build(tmp_path, 'CocoPanopticDataset', [dict(type='PanopticTask', **WORD)])[0]
    assert item['inputs'].shape == (3, 64, 64) and item['inputs'].dtype == torch.uint8
    sample, = item['data_samples']
    assert sample.gt_instances.labels.tolist() == [0, 1, 2]
    assert sample.gt_instances.masks.dtype == torch.bool
    assert sample.gt_instances.masks.shape == (3, 64, 64)
    assert sample.ori_shape == (HEIGHT, WIDTH) and sample.batch_input_shape == (64, 64)
    assert sample.img_shape == (43, 64) and sample.task == 'panoptic'
    truth = sample.gt_eval
    assert truth['labels'].tolist() == [0, 1, 2, 1]
    assert truth['crowd'].tolist() == [False, False, False, True]
    assert [s['label'] for s in truth['segments_info']] == [0, 1, 2, 1]
    expected = np.zeros((HEIGHT, WIDTH))
    for number, k in enumerate((0, 1, 3, 2), 1):
        x, y, w, h = BOXES[k]
        expected[y:y + h, x:x + w] = number
    assert (truth['panoptic'] == expected).all()
    assert [int(coco_mask.area(m)) for m in truth['masks']] == [30, 48, 300, 64]


def test_boxes_go_to_the_network_and_back(tmp_path):
    sample, = build(tmp_path, 'BoxDetectionDataset',
                    [dict(type='DetectionTask', **WORD)])[0]['data_samples']
    assert 'masks' not in sample.gt_instances and 'masks' not in sample.gt_eval
    scale = torch.tensor(sample.scale_factor).repeat(2)
    back = sample.gt_instances.bboxes / scale
    assert torch.allclose(back.double(), torch.tensor(sample.gt_eval['bboxes'][:2]).double(),
                          atol=1e-4)
    assert sample.gt_eval['bboxes'][0].tolist() == [2, 12, 8, 17]


def test_masks_lie_in_their_boxes(tmp_path):
    for kind in ('CocoPanopticDataset', 'CocoInstanceDataset'):
        instances_ = build(tmp_path, kind, [dict(type='InstanceTask', **WORD)],
                           training=True)[0]['data_samples'][0].gt_instances
        for box, mask in zip(instances_.bboxes, instances_.masks, strict=True):
            ys, xs = torch.where(mask)
            tight = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (tight - box).abs().max() <= 1.5


def test_every_instruction_of_an_image_is_a_sample(tmp_path):
    tasks = [dict(type='InstanceTask', **WORD), dict(type='ReferringSegmentationTask', **WORD)]
    item = build(tmp_path, 'RefCocoDataset', tasks)[0]
    assert [s.task for s in item['data_samples']] == ['instance'] + ['referring_segmentation'] * 3
    samples = item['data_samples'][1:]
    assert [s.sent_id for s in samples] == [100, 101, 102]
    assert samples[0].expression_kind == 'attribute'
    assert [int(coco_mask.area(s.gt_eval['masks'][0])) for s in samples] == [30, 30, 48]
    assert [len(s.gt_instances) for s in samples] == [1, 1, 1]


def test_no_target_sentence_and_empty_image(tmp_path):
    samples = build(tmp_path, 'GRefCocoDataset',
                    [dict(type='GeneralizedReferringTask', **WORD)])[0]['data_samples']
    assert [len(s.gt_instances) for s in samples] == [2, 2, 0]
    assert samples[2].gt_eval['masks'] == [] and samples[2].gt_instances.masks.shape == (0, 64, 64)
    for kind, task in (('CocoPanopticDataset', 'PanopticTask'),
                       ('CocoInstanceDataset', 'InstanceTask'),
                       ('BoxDetectionDataset', 'DetectionTask')):
        for training in (True, False):
            sample, = build(tmp_path, kind, [dict(type=task, **WORD)], training)[1]['data_samples']
            assert len(sample.gt_instances) == 0
            assert sample.gt_instances.bboxes.shape == (0, 4)


def test_image_without_request(tmp_path):
    tasks = [dict(type='PhraseGroundingTask', **WORD)]
    with pytest.raises(ValueError, match='b.jpg: none of the tasks'):
        build(tmp_path, 'CocoInstanceDataset', [dict(type='GeneralizedReferringTask', **WORD)])[1]
    training = build(tmp_path, 'GroundingDataset', tasks, training=True)
    assert training.prepare_data(1) is None
    assert training[1]['data_samples'][0].img_id == 1


def test_evaluation_leaves_out_captions_without_a_grounded_phrase(tmp_path):
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mvp_mm.datasets.readers.grounding.print_log',
                      lambda text, **_: told.append(text))
        dataset = build(tmp_path, 'GroundingDataset', [dict(type='PhraseGroundingTask', **WORD)])
        both = build(tmp_path, 'GroundingDataset', [
            dict(type='PhraseGroundingTask', **WORD), dict(type='CaptionTask')])
    assert [dataset[k]['data_samples'][0].img_id for k in range(len(dataset))] == [1]
    assert told == ['ann.json: 1 captions without a grounded phrase left out']
    assert len(both) == 2


def test_training_lists_agree_with_labels_and_vary(tmp_path):
    dataset = build(tmp_path, 'CocoPanopticDataset', [dict(type='PanopticTask', **WORD)], True)
    torch.manual_seed(0)
    orders = set()
    for _ in range(20):
        sample, = dataset[0]['data_samples']
        names = [sample.instruction.phrases[k] for k in sample.gt_instances.labels]
        assert names == ['cat', 'dog', 'sky']
        orders.add(tuple(sample.instruction.phrases))
    assert len(orders) > 2


def test_generators_follow_the_draw_and_the_purpose():
    def drawn(purpose, draw):
        return SampleGenerator(purpose)(dict(draw=draw)).integers(1 << 40)

    assert drawn(0, (3, 1, 7)) == drawn(0, (3, 1, 7))
    others = [(0, (4, 1, 7)), (0, (3, 2, 7)), (0, (3, 1, 8)), (1, (3, 1, 7)), (0, (3, 1, 7))]
    assert len({drawn(*other) for other in others}) == len(others)


def test_a_sample_follows_from_its_draw_alone(tmp_path):
    dataset = build(tmp_path, 'CocoPanopticDataset', [dict(type='PanopticTask', **WORD)], True)

    def phrases(epoch):
        sample, = dataset[DrawnIndex(0, (5, epoch, 0))]['data_samples']
        return tuple(sample.instruction.phrases), np.random.rand(), float(torch.rand(1))

    first = [phrases(epoch) for epoch in range(12)]
    np.random.seed(1)
    assert first == [phrases(epoch) for epoch in range(12)]
    assert len({names for names, _, _ in first}) > 2
    assert len({number for _, number, _ in first}) == len({x for _, _, x in first}) == 12


def test_segment_numbers_equal_a_plain_loop(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.array([1, 255, 256, 65536, 70000, 16777215])
    segment_map = rng.choice(np.append(ids, 0), (17, 13)).astype(np.uint32)
    picture = np.stack([segment_map >> 16, segment_map >> 8 & 255, segment_map & 255], -1)
    path = str(tmp_path / 'map.png')
    cv2.imwrite(path, picture.astype(np.uint8))
    read = read_segment_map(path)
    assert (read == segment_map).all()
    numbers = number_segments(read, ids, path)
    for number, segment in enumerate(ids, 1):
        assert all((numbers[y, x] == number) == (segment_map[y, x] == segment)
                   for y in range(17) for x in range(13))
    with pytest.raises(ValueError, match=r'map.png: no pixel has .*\[9\]'):
        number_segments(read, np.append(ids, 9), path)
    with pytest.raises(ValueError, match=r'map.png: segment ids \[16777215\] are not'):
        number_segments(read, ids[:-1], path)


def test_bad_files_are_named(tmp_path):
    tasks = [dict(type='PanopticTask', **WORD)]
    dataset = build(tmp_path, 'CocoPanopticDataset', tasks)
    (tmp_path / 'seg' / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match='a.png'):
        dataset[0]
    cfg = config(tmp_path, 'CocoInstanceDataset', tasks=[dict(type='InstanceTask', **WORD)],
                 pipeline=pipeline(tmp_path, False), test_mode=True)
    content = instances()
    content['annotations'][1]['segmentation'] = [[1, 2, 3, 4]]
    content['images'][1]['height'] = 99
    write_json(tmp_path / 'ann.json', content)
    dataset = DATASETS.build(cfg)
    with pytest.raises(ValueError, match=r'a.jpg \(image 1\), annotation 11: a polygon needs'):
        dataset[0]
    with pytest.raises(ValueError, match='b.jpg is .* says'):
        dataset[1]


def test_rle_of_both_kinds_equals_polygons(tmp_path):
    tasks = [dict(type='InstanceTask', **WORD)]
    wanted = build(tmp_path, 'CocoInstanceDataset', tasks)[0]['data_samples'][0].gt_eval['masks']
    cfg = config(tmp_path, 'CocoInstanceDataset', tasks=tasks,
                 pipeline=pipeline(tmp_path, False), test_mode=True)
    content = json.loads((tmp_path / 'ann.json').read_text())
    flat = coco_mask.decode(wanted[0]).flatten(order='F')
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    content['annotations'][0]['segmentation'] = dict(size=[HEIGHT, WIDTH], counts=counts)
    content['annotations'][1]['segmentation'] = dict(
        size=[HEIGHT, WIDTH], counts=wanted[1]['counts'].decode())
    write_json(tmp_path / 'ann.json', content)
    assert DATASETS.build(cfg)[0]['data_samples'][0].gt_eval['masks'] == wanted


def test_collate_keeps_lists(tmp_path):
    dataset = build(tmp_path, 'CocoPanopticDataset', [dict(type='PanopticTask', **WORD)])
    batch = perception_collate([dataset[0], dataset[1]])
    assert len(batch['inputs']) == len(batch['data_samples']) == 2
    assert isinstance(batch['data_samples'][0], list)


def test_caption_item(tmp_path):
    sample, = build(tmp_path, 'CaptionDataset', [dict(type='CaptionTask')])[0]['data_samples']
    assert sample.gt_eval['captions'] == ['A cat and a dog.']
    assert len(sample.gt_instances) == 0


def test_strip_is_a_choice(tmp_path):
    dataset = DATASETS.build(config(tmp_path, 'CocoPanopticDataset', strip=()))
    assert dataset.metainfo['classes'] == tuple(c['name'] for c in CATEGORIES)


@pytest.mark.parametrize('number, kind', [(0, np.uint8), (255, np.uint8), (300, np.uint16)])
def test_any_number_of_segments_is_numbered(number, kind):
    rng = np.random.default_rng(0)
    ids = rng.permutation(1 << 24)[:number] | 1
    ids = np.unique(ids)[rng.permutation(len(np.unique(ids)))]
    segment_map = np.append(ids, 0)[np.arange(40 * 40).reshape(40, 40) % (len(ids) + 1)]
    numbers = number_segments(segment_map.astype(np.uint32), ids, 'map.png')
    assert numbers.dtype == kind
    assert np.array_equal(np.append(0, ids)[numbers], segment_map)
