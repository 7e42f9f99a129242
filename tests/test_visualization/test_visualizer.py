# Copyright (c) mvp_mm authors. All rights reserved.
"""The pictures have the right size, show what they should, and lie where the hook says."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mvp_mm.registry import HOOKS, VISUALIZERS
from mvp_mm.structures import Instruction, PerceptionDataSample, Segment, SegmentKind
from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization.drawing import font, wrap


def make_sample(kind='word', phrases=('cat', 'grass'), is_thing=(True, False), **meta):
    sample = PerceptionDataSample(metainfo=dict(img_id=1, ori_shape=(40, 60), **meta))
    sample.instruction = Instruction(
        task='any_task', kind=kind, prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=list(phrases), is_thing=np.array(is_thing))
    return sample


def add_instances(sample, scores):
    count = len(scores)
    masks = torch.zeros(count, 40, 60, dtype=torch.bool)
    masks[:, 10:30, 10:50] = True
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[10., 10., 50., 30.]]).expand(count, 4), scores=torch.tensor(scores),
        labels=torch.zeros(count, dtype=torch.long), masks=masks)
    return sample


@pytest.fixture
def visualizer():
    return VISUALIZERS.build(dict(type='PerceptionVisualizer', name='test', least_side=512))


@pytest.fixture
def image():
    return np.full((40, 60, 3), 128, dtype=np.uint8)


def test_small_images_are_enlarged_and_the_caption_lies_below(visualizer, image):
    sample = add_instances(make_sample(), [0.9])
    plain = visualizer.draw(image, sample)
    sample.pred_caption = 'a cat on the grass ' * 12
    told = visualizer.draw(image, sample)
    assert plain.shape == (341, 512, 3)
    assert told.shape[0] > 341 + 60 and told.shape[1] == 512
    assert np.array_equal(told[:341], plain)


def test_weak_instances_are_left_out_of_word_lists_only(visualizer, image):
    weak = visualizer.draw(image, add_instances(make_sample(), [0.1]))
    assert (weak == 128).all()
    sentence = add_instances(make_sample('sentence', ('the cat',), (True,)), [0.1])
    assert (visualizer.draw(image, sentence)[:341] != 128).any()


def test_panoptic_colours_only_segments(visualizer, image):
    sample = make_sample()
    panoptic = np.zeros((40, 60), dtype=np.int32)
    panoptic[:20] = 1
    sample.pred_panoptic_seg = dict(
        panoptic=torch.from_numpy(panoptic),
        segments_info=[dict(id=1, label=1, isthing=False, score=.9)])
    picture = visualizer.draw(image, sample)
    assert (picture[:150] != 128).any(-1).all()
    assert (picture[190:] == 128).all()


def test_truth_and_prediction_stand_side_by_side(visualizer, image):
    sample = add_instances(make_sample(), [0.9])
    sample.gt_eval = dict(bboxes=np.array([[1., 1., 20., 20.]]), labels=np.array([0]), masks=[])
    assert visualizer.draw(image, sample).shape[1] > 2 * 512
    assert visualizer.draw(image, sample, draw_gt=False).shape[1] == 512


def test_nothing_predicted(visualizer, image):
    assert visualizer.draw(image, make_sample()).shape == (341, 512, 3)
    empty = add_instances(make_sample('sentence', ('no cat',), (True,)), [])
    assert visualizer.draw(image, empty).shape[1] == 512


def test_contact_sheet():
    sizes = [(10, 20), (30, 5), (8, 8)]
    sheet = contact_sheet([np.zeros((*size, 3), dtype=np.uint8) for size in sizes], 2)
    assert sheet.shape == (30 + 8 + 8, 20 + 8 + 5, 3)
    assert (sheet == 0).all(-1).sum() == sum(h * w for h, w in sizes)
    with pytest.raises(ValueError, match='needs pictures'):
        contact_sheet([], 2)


def test_wrapped_lines_fit():
    text = 'a wordwithoutanyspaceinsidethatislongerthantheline and more words to follow'
    lines = wrap(text, font(16), 120)
    assert all(font(16).getlength(line) <= 120 for line in lines)
    assert ''.join(lines).replace(' ', '') == text.replace(' ', '')


def test_hook_draws_every_nth_sample(tmp_path, image):
    path = tmp_path / 'cat.jpg'
    cv2.imwrite(str(path), image)
    hook = HOOKS.build(dict(type='PerceptionVisualizationHook', interval=2))
    runner = SimpleNamespace(work_dir=str(tmp_path))
    samples = [add_instances(make_sample(img_path=str(path)), [0.9]) for _ in range(2)]
    named = add_instances(make_sample(img_path=str(path), benchmark='refcoco_val'), [0.9])
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, samples)
    hook.after_test_iter(runner, 1, None, [named])
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.png'))
    assert files == ['vis_images/any_task/cat_000000.png', 'vis_images/refcoco_val/cat_000002.png']
