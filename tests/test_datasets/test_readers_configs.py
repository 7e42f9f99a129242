# Copyright (c) mvp_mm authors. All rights reserved.
"""Every dataset config reads its published layout when ``data_root`` alone is changed."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset

from mvp_mm.datasets import perception_collate
from mvp_mm.datasets.readers.tar_images import write_tar_index
from mvp_mm.engine import load_config
from mvp_mm.registry import DATASETS, SAMPLERS
from tests.helpers import ROOT
from tests.test_datasets.miniature import entries, moved, write_all
from tests.test_datasets.small_data import pipeline, tokenizer_config

ENTRIES = entries()
# Images, and objects of the first one; training leaves a RefCOCO test image out of COCO.
COUNTS = {
    'ade20k_instance_val': (1, 3), 'ade20k_panoptic_train': (1, 4),
    'ade20k_panoptic_val': (1, 4), 'ade20k_semantic_val': (1, 3), 'cc3m': (1, 0),
    'cc3m_tars': (5, 0), 'cityscapes_instance_val': (1, 3), 'cityscapes_panoptic_train': (1, 4),
    'cityscapes_panoptic_val': (1, 4), 'cityscapes_semantic_trainids_val': (1, 3),
    'cityscapes_semantic_val': (1, 3), 'coco_caption_train': (1, 0), 'coco_caption_val': (1, 0),
    'coco_instance_train': (1, 3), 'coco_instance_val': (1, 3), 'coco_panoptic_train': (1, 4),
    'coco_panoptic_val': (1, 4), 'flickr30k_val': (1, 2), 'goldg_mixed_train': (1, 2),
    'goldg_flickr_train': (1, 2), 'grefcoco_train': (1, 3), 'lvis_train': (1, 3),
    'lvis_val': (1, 3), 'objects365_train': (1, 3), 'objects365_val': (1, 3),
    'odvg_detection': (1, 2), 'odvg_grounding': (1, 3), 'pascal_context_listed_val': (1, 4),
    'pascal_context_val': (1, 4), 'pascal_voc_val': (1, 2),
    'coco_stuff_val': (1, 3), 'reason_seg_train': (1, 1), 'reason_seg_val': (1, 1),
    'reason_seg_test': (1, 1), 'ref_adv_s': (1, 2), 'refcoco_m_val': (1, 2)
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_all(root)
    tars = root / 'cc3m_tars'
    write_tar_index(sorted(tars.glob('*.tar')), tars / 'index.jsonl')
    return root


def steps(root: Path, name: str, training: bool) -> list[dict]:
    """The usual pipeline, with the loaders that tars and semantic maps ask for."""
    def loader(kind: str) -> str:
        if 'tars' in name and kind.startswith('LoadImage'):
            return 'LoadImageFromTar'
        if 'vocabulary' in ENTRIES[name] and kind == 'LoadPerceptionAnnotations':
            return 'LoadSemanticMap'
        return kind

    return [dict(step, type=loader(step['type'])) for step in pipeline(root, training)]


def test_every_entry_has_a_known_count():
    families = {name for name in ENTRIES
                if name not in COUNTS and (
                    name.startswith(('refcoco', 'grefcoco_', 'odinw_')))}
    assert set(COUNTS) == set(ENTRIES) - families
    # Four to train on; nine splits to score by each of three protocols; gRefCOCO's three; the
    # thirteen folders of ODinW.
    assert len(families) == 4 + 3 * 9 + 3 + 13


@pytest.mark.parametrize('name', sorted(ENTRIES))
def test_entry_reads_its_tree_and_its_samples_flow(root, name):
    cfg = moved(ENTRIES[name], root)
    training = not cfg.get('test_mode', False)
    torch.manual_seed(0)
    dataset = DATASETS.build(dict(cfg, pipeline=steps(root, name, training)))
    images, objects = COUNTS.get(name, (1, 3))
    assert len(dataset) == images
    assert len(dataset.get_data_info(0)['boxes']) == objects
    item = dataset[0]
    assert item['inputs'].shape == (3, 64, 64)
    sample = item['data_samples'][0]
    assert sample.ori_shape == (20, 30)
    if training:
        assert sample.instruction.response
    elif sample.task.startswith(('panoptic', 'semantic')):
        assert len(np.unique(sample.gt_eval['panoptic'])) > 2
    elif sample.instruction.kind != 'caption':
        assert len(sample.gt_instances.bboxes) == len(sample.gt_eval['bboxes']) > 0


@pytest.mark.parametrize('key, sentences', [
    ('refcoco_testA', 3), ('refcoco_plus_testB', 3), ('refcocog_test', 3),
    ('refcocog_google_val', 3)])
def test_a_reference_is_asked_by_sentence_or_joined(root, key, sentences):
    asked = {}
    for variant in ('', '_joined'):
        name = f'{key}{variant}'
        dataset = DATASETS.build(dict(
            moved(ENTRIES[name], root), pipeline=steps(root, name, training=False)))
        asked[variant] = [s.instruction.phrases for s in dataset[0]['data_samples']]
    assert asked[''] == [['man in red'], ['man'], ['red shirt']]
    assert asked['_joined'] == [['man in red. man. red shirt']]


def test_boxes_only_variant_asks_for_boxes(root):
    name = 'refcoco_val_boxes'
    dataset = DATASETS.build(dict(
        moved(ENTRIES[name], root), pipeline=steps(root, name, training=False)))
    assert dataset[0]['data_samples'][0].task == 'referring_comprehension'


def test_grefcoco_has_sentences_with_many_and_without_targets(root):
    name = 'grefcoco_testB'
    dataset = DATASETS.build(dict(
        moved(ENTRIES[name], root), pipeline=steps(root, name, training=False)))
    assert [len(s.gt_instances.bboxes) for s in dataset[0]['data_samples']] == [3, 0]


@pytest.fixture(scope='module')
def stage2(root):
    """Datasets and sampler of stage 2; only roots, the tokenizer and the canvas differ."""
    tokenizer = {k: v for k, v in tokenizer_config(root).items()
                 if k not in ('num_visual_tokens', 'max_length')}
    options = {f'model.tokenizer.{key}': value for key, value in tokenizer.items()}
    loader = load_config(ROOT / 'configs/mvplm/stage2.py', dict(
        options, canvas=(64, 64))).train_dataloader.to_dict()
    for dataset in loader['dataset']['datasets']:
        dataset['data_root'] = moved(dataset, root)['data_root']
    members = [DATASETS.build(member) for member in loader['dataset']['datasets']]
    dataset = ConcatDataset(members, ignore_keys=loader['dataset']['ignore_keys'])
    sampler = SAMPLERS.build(dict(loader['sampler'], dataset=dataset, seed=0))
    return dataset, sampler


def test_stage_two_mixes_the_four_sources_in_the_papers_ratios(stage2):
    dataset, sampler = stage2
    drawn = [index for index, _ in zip(iter(sampler), range(600), strict=False)]
    member = np.searchsorted(dataset.cumulative_sizes, drawn, side='right')
    share = np.bincount(member, minlength=7) / len(drawn)
    papers = [1 / 3, *[1 / 9] * 3, 1 / 6, 1 / 12, 1 / 12]
    assert np.abs(share - papers).max() <= 2 / 600


def test_every_source_of_stage_two_gives_samples_that_batch(stage2):
    dataset, _ = stage2
    starts = [0, *dataset.cumulative_sizes[:-1]]
    batch = perception_collate([dataset[start] for start in starts])
    tasks = [samples[0].task for samples in batch['data_samples']]
    assert tasks == ['panoptic', *['referring_segmentation'] * 3, 'detection', 'grounding',
                     'grounding']
