# Copyright (c) mvp_mm authors. All rights reserved.
"""The pictures have the right size, show what they should, and lie where the hook says."""
from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mvp_mm.registry import HOOKS, VISUALIZERS
from mvp_mm.structures import Instruction, PerceptionDataSample, Segment, SegmentKind
from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization import visualizer as module
from mvp_mm.visualization.drawing import (
    draw_box,
    draw_mask,
    justified_sheet,
    repeated_answers,
)
from mvp_mm.visualization.palette import color_of
from mvp_mm.visualization.text import Tags, font, wrap


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


def colours_of(picture, plain):
    """Saturated colours of a picture on a grey image, the most frequent first."""
    changed = picture[(picture != plain).any(-1)]
    strong = changed[(changed.max(-1).astype(int) - changed.min(-1)) > 120]
    found, counts = np.unique(strong, axis=0, return_counts=True)
    return [tuple(c) for c in found[np.argsort(-counts)].tolist()]


def test_a_class_has_one_colour_in_truth_and_prediction(visualizer, image):
    phrases, box = ['cat', 'dog', 'cow'], np.array([[5., 5., 50., 35.]])
    truth = visualizer.draw_objects(image, box, None, np.array([2]), None, phrases)
    found = visualizer.draw_objects(image, box, None, np.array([2]), np.array([.9]), phrases)
    other = visualizer.draw_objects(image, box, None, np.array([1]), np.array([.9]), phrases)
    colour = colours_of(truth, 128)[0]
    assert colour == colours_of(found, 128)[0] == color_of(2)
    assert colours_of(other, 128)[0] == color_of(1)


def test_neighbouring_classes_differ_in_hue_or_lightness():
    colours = [color_of(k) for k in range(21)]
    assert len(set(colours)) == 21
    grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in colours]
    for k in range(20):
        distance = np.abs(np.subtract(colours[k], colours[k + 1])).sum()
        assert distance > 100 or abs(grey[k] - grey[k + 1]) > 40


def test_stuff_is_striped_and_things_are_even(image):
    mask = np.zeros((200, 200), dtype=bool)
    mask[10:190, 10:190] = True
    pictures = [np.full((200, 200, 3), 128, dtype=np.uint8) for _ in range(2)]
    draw_mask(pictures[0], mask, color_of(0))
    draw_mask(pictures[1], mask, color_of(0), striped=True)
    even, striped = (np.unique(p[20:180, 20:180].reshape(-1, 3), axis=0) for p in pictures)
    assert len(even) == 1 and len(striped) == 2
    assert all((p[:5] == 128).all() for p in pictures)


def hue_of(rgb):
    """Hue in degrees."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0]


@pytest.mark.parametrize('radius, striped', [(12, False), (90, False), (90, True)],
                         ids=['small thing', 'thing', 'stuff'])
@pytest.mark.parametrize('name, own', [
    ('red', (214, 39, 40)), ('green', (44, 160, 44)), ('blue', (31, 90, 200)),
    ('yellow', (240, 210, 40)), ('purple', (140, 60, 190)), ('orange', (240, 130, 20))])
def test_an_object_keeps_its_own_colour_below_its_mask(name, own, radius, striped):
    y, x = np.ogrid[:200, :200]
    mask = (x - 100) ** 2 + (y - 100) ** 2 < radius ** 2
    for number in range(21):
        picture = np.full((200, 200, 3), own, dtype=np.uint8)
        draw_mask(picture, mask, color_of(number), striped=striped)
        shift = np.abs(hue_of(picture) - hue_of(np.full((1, 1, 3), own)))
        shift = np.minimum(shift, 360 - shift)[mask]
        # Red and orange are 30 degrees apart, 60 are from a primary colour to the next.
        assert np.percentile(shift, 55) < 10, (number, np.percentile(shift, 55))


@pytest.mark.parametrize('shapes', [
    [(360, 480)] * 9, [(480, 240)] * 9, [(480, 300), (300, 480), (480, 480), (100, 480)],
    [(480, 480)], [(40, 480), (480, 30), (200, 300), (300, 200), (222, 333)]])
def test_a_sheet_of_pictures_of_any_shape_has_no_gaps(shapes):
    pictures = [np.full((h, w, 3), 10 + 20 * k, np.uint8) for k, (h, w) in enumerate(shapes)]
    width = 480 * min(3, len(shapes))
    sheet = justified_sheet(pictures, width, 360)
    assert sheet.shape[1] == width
    # Lines between pictures are 8 pixels wide: whiter than that nothing is.
    white = (sheet == 255).all(-1)
    whole = cv2.erode(white.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0)
    assert not whole.any()
    for k, (h, w) in enumerate(shapes):
        rows, columns = np.nonzero((sheet == 10 + 20 * k).all(-1))
        found = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(found[1] / found[0] - w / h) < 0.1 * w / h + 0.02


def test_a_mask_is_seen_on_a_grey_object_of_any_size():
    for radius in (6, 40, 95):
        y, x = np.ogrid[:200, :200]
        mask = (x - 100) ** 2 + (y - 100) ** 2 < radius ** 2
        picture = np.full((200, 200, 3), 128, dtype=np.uint8)
        draw_mask(picture, mask, color_of(1))
        changed = np.abs(picture.astype(int) - 128).max(-1)
        assert (changed[mask] > 0).all()
        assert (changed > 60).sum() > 2 * np.pi * radius    # the outline


@pytest.mark.parametrize('side', [640, 3000])
def test_text_and_lines_take_the_same_share_of_every_picture(side):
    picture = np.full((side, side, 3), 128, dtype=np.uint8)
    tags = Tags(picture)
    tags.add('cat', (side / 2, side / 2), (200, 0, 0))
    written = (tags.picture() != 128).any(-1)
    height = np.flatnonzero(written.any(1))
    assert 0.02 < (height[-1] - height[0]) / side < 0.05
    draw_box(picture, (side / 4, side / 4, side * 3 / 4, side * 3 / 4), (200, 0, 0))
    thickness = (picture[side // 2] != 128).any(-1).sum() / 2
    assert 0.004 < thickness / side < 0.012


def test_a_label_that_moves_gets_a_line_to_its_object():
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    alone, crowded = Tags(grey), Tags(grey)
    alone.add('one', (100, 200), (200, 0, 0))
    for _ in range(6):
        crowded.add('one', (100, 200), (200, 0, 0))
    boxes = [tag[0] for tag in crowded._tags]
    assert len(set(boxes)) == 6
    assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
               for k, a in enumerate(boxes) for b in boxes[:k])
    assert alone._tags[0][-1] is None and crowded._tags[-1][-1] == (100, 200)
    inside = np.zeros((400, 400), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        inside[y1:y2, x1:x2] = True
    assert ((crowded.picture() != 128).any(-1) & ~inside).any()
    assert not ((alone.picture() != 128).any(-1) & ~inside).any()


def test_repeated_answers_point_to_the_best_of_their_name():
    boxes = np.array([[0., 0., 10., 10.], [0., 0., 10., 9.], [0., 0., 10., 10.],
                      [30., 30., 40., 40.], [0., 0., 10., 8.]])
    first = repeated_answers(boxes, np.array([0, 0, 1, 0, 0]), np.array([.5, .9, .8, .7, .6]))
    assert first.tolist() == [1, 1, 2, 3, 1]
    assert repeated_answers(np.zeros((0, 4)), np.zeros(0), np.zeros(0)).tolist() == []


def test_repeats_are_dashed_and_counted(visualizer, image, monkeypatch):
    written, drawn = [], []
    monkeypatch.setattr(Tags, 'add', lambda self, text, *a, **k: written.append(text))
    monkeypatch.setattr(module, 'draw_box', lambda *a, dashed=False: drawn.append(dashed))
    boxes = np.array([[5., 5., 50., 35.], [5., 5., 50., 34.]])
    visualizer.draw_objects(image, boxes, None, np.array([0, 0]), np.array([.6, .9]), ['cat'])
    assert written == ['cat 0.90 ×2'] and drawn == [True, False]


def test_drawing_changes_neither_image_nor_visualizer(visualizer, image):
    sample, before = add_instances(make_sample(), [0.9]), dict(vars(visualizer))
    visualizer.draw(image, sample)
    assert (image == 128).all() and vars(visualizer) == before


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
