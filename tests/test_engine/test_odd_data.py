# Copyright (c) mvp_mm authors. All rights reserved.
"""Short trainings on datasets at the edge: one class, no objects, objects below a pixel."""
from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from tests.helpers import CANVAS, save_tokenizer
from tests.test_datasets.small_data import rectangle, write_json
from tests.test_engine.perception_runs import run, run_config

SIDE, IMAGES = 96, 3
BELOW_A_PIXEL = ([10.3, 20.4, 1e-3, 1e-3], 0)


def write_dataset(root, objects, classes=('kite', 'boat')):
    """Images that all have the same objects, as pairs of a box and a class."""
    (root / 'img').mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'img' / f'{number}.png'), pixels)
        images.append(dict(id=number, file_name=f'{number}.png', height=SIDE, width=SIDE))
        annotations += [dict(
            id=100 * number + k, image_id=number, category_id=label, bbox=box, iscrowd=0,
            segmentation=rectangle(box)) for k, (box, label) in enumerate(objects)]
    write_json(root / 'ann.json', dict(images=images, annotations=annotations, categories=[
        dict(id=number, name=name) for number, name in enumerate(classes)]))


def train(root, kind='CocoInstanceDataset', task='InstanceTask'):
    """Losses of two steps."""
    tokenizer = save_tokenizer(root / 'tokenizer')
    instructions = dict(type='InstructionTokenizer', path=tokenizer, num_visual_tokens=4,
                        max_length=256)
    dataset = dict(
        type=kind, data_root=str(root), ann_file='ann.json', data_prefix=dict(img='img'),
        tasks=[dict(type=task, response='none')], max_refetch=1, pipeline=[
            dict(type='BuildInstructions', tokenizer=instructions, training=True),
            dict(type='LoadImage'), dict(type='LoadPerceptionAnnotations'),
            dict(type='ResizeToCanvas', scale=(CANVAS, CANVAS)),
            dict(type='PadToCanvas', size=(CANVAS, CANVAS)), dict(type='PackPerceptionInputs')])
    cfg = run_config(root, tokenizer, 'run', images=1)
    cfg.train_dataloader.dataset = dataset
    cfg.custom_hooks[0].allow_frozen_random_init = ['encoder']
    cfg.load_from, cfg.train_cfg.max_iters = None, 2
    return run(cfg)[1]


@pytest.mark.parametrize('objects, classes, with_targets', [
    ([([10, 20, 30, 25], 0)], ('kite', ), True),
    ([], ('kite', 'boat'), False),
    ([BELOW_A_PIXEL, ([95.2, 95.3, 0.5, 0.5], 1), ([0, 0, 96, 96], 0), ([40, 40, 1, 50], 1)],
     ('kite', 'boat'), True)], ids=['one class', 'no objects', 'tiny boxes'])
def test_training_on_data_at_the_edge_has_finite_losses(tmp_path, objects, classes, with_targets):
    write_dataset(tmp_path, objects, classes)
    losses = train(tmp_path)
    assert len(losses) == 2 and all(math.isfinite(v) for step in losses for v in step.values())
    assert all((step['loss_box_l1'] > 0) == with_targets for step in losses)


def test_training_on_boxes_below_a_pixel_alone_has_finite_losses(tmp_path):
    write_dataset(tmp_path, [BELOW_A_PIXEL])
    losses = train(tmp_path, 'BoxDetectionDataset', 'DetectionTask')
    assert len(losses) == 2 and all(math.isfinite(v) for step in losses for v in step.values())
