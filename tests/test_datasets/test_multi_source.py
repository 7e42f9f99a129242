# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import pytest
import torch

from mvp_mm.datasets import (
    BoxDetectionDataset,
    CocoPanopticDataset,
    GRefCocoDataset,
    MultiSourceDataset,
    RefCocoDataset,
)
from mvp_mm.datasets.transforms import TokenizeRequests
from mvp_mm.registry import TASKS
from mvp_mm.synthetic import WorldParameters, make_world
from tests.helpers import save_tokenizer


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp('joined')
    make_world(str(folder / 'world'), WorldParameters(seed=3, train=6, val=2), workers=1)
    save_tokenizer(folder / 'tokenizer')
    return folder


def tokenizer_of(world):
    return dict(type='InstructionTokenizer', path=str(world / 'tokenizer'), num_visual_tokens=4,
                max_length=512)


def pipeline_of(world):
    return [
        dict(type='BuildInstructions', tokenizer=tokenizer_of(world), training=True),
        dict(type='LoadImage'),
        dict(type='LoadPerceptionAnnotations'),
        dict(type='ResizeToCanvas', scale=(64, 64)),
        dict(type='PadToCanvas', size=(64, 64)),
        dict(type='PackPerceptionInputs'),
    ]


def members_of(world, **more):
    root = str(world / 'world')
    panoptic = CocoPanopticDataset(
        data_root=root, ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='images/train', seg='annotations/panoptic_train'),
        tasks=[dict(type='PanopticTask', response='none')], **more)
    sentences = RefCocoDataset(
        data_root=root, ann_file='refer/refcoco/refs(unc).p', split='train',
        instances_file='refer/refcoco/instances.json', data_prefix=dict(img='images'),
        tasks=[dict(type='ReferringSegmentationTask', response='none')], **more)
    general = GRefCocoDataset(
        data_root=root, ann_file='refer/grefcoco/grefs(unc).json', split='train',
        instances_file='refer/grefcoco/instances.json', data_prefix=dict(img='images'),
        tasks=[dict(type='GeneralizedReferringTask', response='none')], **more)
    return [panoptic, sentences, general]


def answers(samples):
    """The union of the target masks of every question."""
    found = {}
    for sample in samples:
        masks = sample.gt_instances.masks
        key = (sample.task, tuple(sorted(sample.instruction.phrases)))
        found[key] = (len(masks), masks.any(0))
    return found


def test_a_joined_item_asks_what_its_members_ask_about_the_same_image(world):
    joined = MultiSourceDataset(members_of(world), pipeline=pipeline_of(world))
    alone = {}
    for member in members_of(world, pipeline=pipeline_of(world)):
        for item in member:
            name = item['data_samples'][0].img_path.rsplit('/', 1)[-1]
            alone.setdefault(name, {}).update(answers(item['data_samples']))
    assert len(joined) == 6
    for item in joined:
        name = item['data_samples'][0].img_path.rsplit('/', 1)[-1]
        found = answers(item['data_samples'])
        assert found.keys() == alone[name].keys()
        for key, (count, mask) in found.items():
            assert count == alone[name][key][0]
            assert torch.equal(mask, alone[name][key][1])


def test_box_only_data_cannot_be_joined_with_masks(world):
    boxes = BoxDetectionDataset(
        data_root=str(world / 'world'), ann_file='annotations/objects365_train.json',
        data_prefix=dict(img='images/train'),
        tasks=[dict(type='DetectionTask', response='none')])
    joined = MultiSourceDataset([members_of(world)[0], boxes], pipeline=pipeline_of(world))
    with pytest.raises(TypeError, match='box-only'):
        joined[0]


def test_requests_made_from_words_are_tokenised(world):
    request = TASKS.build(dict(type='ReferringSegmentationTask')).ask(text='the red circle')
    transform = TokenizeRequests(tokenizer_of(world))
    instruction = transform(dict(requests=[request]))['requests'][0].instruction
    inside = instruction.input_ids[instruction.phrase_index == 0]
    assert transform.tokenizer.decode(inside) == ' the red circle'
    assert instruction.prompt_length == len(instruction.input_ids)
    assert np.all(instruction.labels == -100)


class Named(BoxDetectionDataset):
    """Images by name, and nothing else."""

    def __init__(self, folder, names):
        self.names, self.folder = names, folder
        super().__init__('none.json', dict(img=folder))

    def _join_prefix(self):
        pass

    def open_index(self):
        return None

    def load_items(self):
        self.set_classes((), ())
        return [dict(img_id=k, file_name=name, img_path=self.image_path(name))
                for k, name in enumerate(self.names)]


def found(first, second):
    """Names that the second dataset adds to each image of the first."""
    joined = MultiSourceDataset([first, second])
    return [[part['file_name'] for part in joined.get_data_info(k)['parts'][1:]]
            for k in range(len(joined))]


@pytest.mark.parametrize('first, second, expected', [
    # Equal names in two folders are two images.
    (('all', ['p0/a.jpg', 'p1/a.jpg']), ('all', ['p1/a.jpg', 'p0/a.jpg']),
     [['p0/a.jpg'], ['p1/a.jpg']]),
    # The folder may stand in the prefix of one of them.
    (('all/p1', ['a.jpg']), ('all', ['p0/a.jpg', 'p1/a.jpg']), [['p1/a.jpg']]),
    (('all', ['p0/a.jpg', 'p1/a.jpg']), ('all/p1', ['a.jpg']), [[], ['a.jpg']]),
    (('all/p1', ['a.jpg']), ('all', ['p0/a.jpg']), [[]]),
    # COCO's images of 2014 are those of 2017.
    (('train2017', ['000000000009.jpg']),
     ('x', ['train2014/COCO_train2014_000000000009.jpg']),
     [['train2014/COCO_train2014_000000000009.jpg']]),
    # What a dataset has about an image in several items is all there.
    (('all', ['a.jpg']), ('all', ['a.jpg', 'b.jpg', 'a.jpg']), [['a.jpg', 'a.jpg']])])
def test_images_of_equal_name_are_told_apart_by_their_folders(first, second, expected):
    assert found(Named(*first), Named(*second)) == expected


def test_a_name_that_fits_two_images_is_refused():
    with pytest.raises(ValueError, match='all/p/q/a.jpg may be q/a.jpg or p/q/a.jpg of none.json'):
        found(Named('all/p/q', ['a.jpg']), Named('all', ['q/a.jpg', 'p/q/a.jpg']))
