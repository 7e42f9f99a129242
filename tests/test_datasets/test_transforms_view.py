# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mvp_mm.datasets.transforms import (
    ApplyView,
    ColorJitter,
    DrawView,
    PackPerceptionInputs,
    PadToCanvas,
    SegmentMapMasks,
)
from mvp_mm.datasets.transforms.mirror import mirror_text
from mvp_mm.datasets.transforms.view import View, drop_objects
from mvp_mm.registry import DATASETS
from mvp_mm.structures import ImageAnnotation, Instruction, Referral, Request, Segment, SegmentKind
from tests.test_datasets.small_data import config, pipeline

VIEWS = [View((64, 64)), View((64, 64), flip=True), View((64, 64), 0.37),
         View((64, 64), 1.9, (0.3, 0.8)), View((64, 64), 1.6, (0.99, 0.0), True)]


def segment_map(seed=0, height=47, width=61, number=6):
    """Blocks of random segments, 0 for none."""
    small = np.random.default_rng(seed).integers(0, number + 1, (height // 4 + 1, width // 4 + 1))
    return np.kron(small, np.ones((4, 4)))[:height, :width].astype(np.uint8)


def make_results(masks, view, image=None):
    numbers = segment_map()
    boxes = [[5, 6, 30, 40], [0, 0, 61, 47], [50, 30, 60, 45]] * 2
    return dict(
        img=np.repeat(numbers[..., None] * 30, 3, -1) if image is None else image, view=view,
        gt_bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32)),
        gt_bboxes_labels=np.arange(6), gt_masks=masks, gt_seg_map=numbers.copy())


def both_kinds():
    numbers = segment_map()
    as_map = SegmentMapMasks(numbers, np.arange(1, 7))
    return as_map, BitmapMasks((numbers == np.arange(1, 7)[:, None, None]).astype(np.uint8), 47, 61)


@pytest.mark.parametrize('view', VIEWS)
def test_a_map_is_transformed_as_its_bitmaps_are(view):
    found, wanted = [PadToCanvas(size=(64, 64))(ApplyView()(make_results(masks, view)))
                     for masks in both_kinds()]
    assert np.array_equal(found['gt_masks'].to_ndarray(), wanted['gt_masks'].to_ndarray())
    assert np.array_equal(found['gt_masks'].areas, wanted['gt_masks'].areas)
    assert found['gt_masks'].to_ndarray().shape[1:] == (64, 64)


@pytest.mark.parametrize('operation', [
    lambda m: m.resize((31, 90)), lambda m: m.rescale((100, 80)), lambda m: m.flip('vertical'),
    lambda m: m.pad((70, 70)), lambda m: m.crop(np.array([3, 2, 40, 41])), lambda m: m[[4, 1]],
    lambda m: m[np.array([False, True] * 3)]])
def test_operations_of_mmdet_agree_with_bitmaps(operation):
    found, wanted = map(operation, both_kinds())
    assert np.array_equal(found.to_ndarray(), wanted.to_ndarray())
    assert (found.height, found.width, len(found)) == (wanted.height, wanted.width, len(wanted))


@pytest.mark.parametrize('view', VIEWS)
def test_masks_and_semantic_map_stay_together(view):
    results = ApplyView()(make_results(both_kinds()[0], view))
    assert np.array_equal(results['gt_masks'].map, results['gt_seg_map'])
    assert results['gt_seg_map'].shape == results['img'].shape[:2] == results['img_shape']


@pytest.mark.parametrize('view', VIEWS)
def test_boxes_follow_the_pixels(view):
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[12:36, 16:40] = 255
    results = make_results(None, view, image)
    results.pop('gt_seg_map')
    results['gt_bboxes'] = HorizontalBoxes(torch.tensor([[16., 12, 40, 36]]))
    results['gt_bboxes_labels'] = np.arange(1)
    results = ApplyView()(results)
    ys, xs = np.nonzero(results['img'][..., 0] > 127)
    tight = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert (results['gt_bboxes'].tensor[0] - tight).abs().max() <= 1


def test_flipping_mirrors_the_image():
    plain, flipped = [ApplyView()(make_results(both_kinds()[0], View((61, 47), flip=flip)))
                      for flip in (False, True)]
    assert np.array_equal(flipped['img'], plain['img'][:, ::-1])
    assert flipped['flip'] and flipped['flip_direction'] == 'horizontal'


def test_visible_shares_are_those_of_the_window():
    view = View((50, 50), 2.0, (0.0, 0.0))  # a 100 x 100 image of which a quarter is shown
    boxes = np.array([[0, 0, 10, 10], [40, 40, 50, 50], [20, 0, 30, 10]], dtype=np.float32)
    assert view.visible(boxes, 50, 50) == pytest.approx([1, 0, 0.5])


@pytest.mark.parametrize('seed', range(5))
def test_windows_lie_in_the_image(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        view = View((64, 48), rng.uniform(0.1, 2), tuple(rng.random(2)))
        height, width = rng.integers(5, 200, 2)
        left, top, right, bottom = view.window(height, width)
        w, h = view.size(height, width)
        assert 0 <= left < right <= w and 0 <= top < bottom <= h
        assert right - left == min(w, 64) and bottom - top == min(h, 48)


def annotation():
    return ImageAnnotation(
        source='Data a.jpg', vocabulary=('cat', 'dog'), vocabulary_is_thing=np.ones(2, bool),
        labels=np.array([0, 1, 1]), crowd=np.zeros(3, bool),
        referrals=[Referral('the Left cat', [0]), Referral('both dogs', [1, 2]),
                   Referral('no bird', [])],
        captions=['A dog to the right of a cat.'],
        caption_spans=[('a left dog', [1, 2]), ('a cat', [0])])


def test_hidden_objects_are_not_asked_about():
    found = annotation()
    drop_objects(found, np.array([False, True, False]))
    assert found.labels.tolist() == [0, -1, 1]
    assert [r.sentence for r in found.referrals] == ['the Left cat', 'no bird']
    assert found.caption_spans == [('a left dog', [2]), ('a cat', [0])]
    drop_objects(found, np.array([False, False, True]))
    assert found.caption_spans == [('a cat', [0])]


def draw(annotation_, **arguments):
    transform = DrawView((64, 64), **arguments)
    results = dict(annotation=annotation_, boxes=np.zeros((0, 4), np.float32))
    return transform(results)['view'], transform


def test_a_flip_turns_all_texts():
    found = annotation()
    view, transform = draw(found, flip_prob=1.0)
    assert view.flip and not transform.refused
    assert found.referrals[0].sentence == 'the Right cat'
    assert found.captions == ['A dog to the left of a cat.']
    assert found.caption_spans[0] == ('a right dog', [1, 2])


@pytest.mark.parametrize('change', [
    dict(captions=['It stands right behind the cat.']), dict(vocabulary=('left hand', 'dog')),
    dict(referrals=[Referral('number 12', [0])]), dict(caption_spans=[('the word', [0])])])
def test_a_flip_that_a_text_forbids_does_not_take_place(change):
    found, before = annotation(), annotation()
    for key, value in change.items():
        setattr(found, key, value)
        setattr(before, key, value)
    view, transform = draw(found, flip_prob=1.0)
    assert not view.flip and transform.refused == {'Data': 1}
    assert (found.referrals, found.captions, found.caption_spans) == (
        before.referrals, before.captions, before.caption_spans)


@pytest.mark.parametrize('text, mirrored', [
    ('the man on the left', 'the man on the right'), ('Leftmost cup', 'Rightmost cup'),
    ('LEFT', 'RIGHT'), ('left-hand side, not right-hand', 'right-hand side, not left-hand'),
    ('right of the tree', 'left of the tree'), ('guy right', 'guy left'), ('a cat', 'a cat'),
    ('a bright upright cleft', 'a bright upright cleft'), ('top left corner', 'top right corner'),
    ('second from right', 'second from left'), ('facing left', 'facing right'),
    ('a right-handed batter', 'a left-handed batter'),
])
def test_sides_are_swapped(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


@pytest.mark.parametrize('text', [
    'right next to the tree', 'the dog right behind him', 'a clock at noon', 'three o\'clock',
    'player 12', 'the sign says stop', 'letter on the wall', 'the word love', 'all right',
    'what is left', 'the bag left behind', 'man has left', 'he left the room', 'L-shaped couch',
    'girl on rt', 'the l one', 'clockwise second', 'human rights', 'a "stop" sign', 'east side',
    'caf\u00e9 on the left', 'right in front', 'food left on the plate', 'numbers', 'lefty',
])
def test_doubtful_texts_are_refused(text):
    assert mirror_text(text) is None


def test_views_are_drawn_over_the_whole_range():
    torch.manual_seed(0)
    transform = DrawView((64, 64), flip_prob=0.5, scale_range=(0.1, 2.0))
    views = [transform(dict(annotation=ImageAnnotation('x'), boxes=np.zeros((0, 4))))['view']
             for _ in range(400)]
    scales = np.array([view.scale for view in views])
    assert 0.1 <= scales.min() < 0.2 and 1.9 < scales.max() <= 2.0
    assert 0.4 < np.mean([view.flip for view in views]) < 0.6


@pytest.mark.parametrize('arguments', [
    dict(flip_prob=2), dict(scale_range=(0, 1)), dict(scale_range=(2, 1)), dict(min_visible=0)])
def test_impossible_views_are_refused(arguments):
    with pytest.raises(ValueError, match='flip_prob must be'):
        DrawView((64, 64), **arguments)


def jittered(tmp_path, kind, task, **view):
    steps = pipeline(tmp_path, True)
    steps = [dict(type='DrawView', canvas=(64, 64), **view), *steps[:3], dict(type='ApplyView'),
             *steps[4:]]
    return DATASETS.build(config(
        tmp_path, kind, tasks=[dict(type=task, response='none')], pipeline=steps))


def test_jittered_samples_hold_what_is_asked(tmp_path):
    torch.manual_seed(0)
    dataset = jittered(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask',
                       scale_range=(1.0, 3.0), flip_prob=0.5)
    sentences = set()
    for _ in range(30):
        packed = dataset.prepare_data(0)
        for sample in packed['data_samples'] if packed else ():
            assert packed['inputs'].shape == (3, 64, 64)
            assert len(sample.gt_instances) == 1 and sample.gt_instances.masks.any()
            sentences.add(sample.instruction.phrases[0])
    assert {'the cat', 'animal on the left', 'animal on the right', 'the dog'} == sentences


def test_word_lists_lose_what_a_crop_removes(tmp_path):
    torch.manual_seed(0)
    dataset = jittered(tmp_path, 'CocoPanopticDataset', 'PanopticTask', scale_range=(3.0, 3.0))
    counts = set()
    for _ in range(30):
        packed = dataset.prepare_data(0)
        for sample in packed['data_samples'] if packed else ():
            instances = sample.gt_instances
            assert instances.masks.flatten(1).any(1).all()
            counts.add(len(instances))
    assert len(counts) > 1 and max(counts) <= 3


@pytest.mark.parametrize('kind, expected', [('sentence', 0), ('word', 1)])
def test_targets_without_pixels_in_the_crop_are_gone(kind, expected):
    masks = np.zeros((2, 8, 8), dtype=np.uint8)
    masks[0, 2, 2] = 1
    phrases = ['a'] if kind == 'sentence' else ['a', 'b']
    instruction = Instruction(
        task='t', kind=kind, prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=phrases, is_thing=np.ones(len(phrases), bool))
    request = Request(instruction, targets=np.arange(2), labels=np.zeros(2, dtype=np.int64))
    packed = PackPerceptionInputs()(dict(
        img=np.zeros((8, 8, 3), np.uint8), crop=np.array([0, 0, 8, 8]), num_objects=2,
        gt_bboxes=HorizontalBoxes(torch.ones(2, 4)), gt_bboxes_labels=np.arange(2),
        gt_masks=BitmapMasks(masks, 8, 8), requests=[request]))
    assert (len(packed['data_samples'][0].gt_instances) if packed else 0) == expected


def test_colours_change_and_shape_does_not():
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    changed = ColorJitter()(dict(img=image.copy()))['img']
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    assert not np.array_equal(changed, image)
    same = ColorJitter(0, 0, 0, 0)(dict(img=image.copy()))['img']
    assert np.array_equal(same, image)


def test_impossible_colours_are_refused():
    with pytest.raises(ValueError, match='Strengths'):
        ColorJitter(brightness=1.5)
