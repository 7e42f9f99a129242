# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic and semantic maps: ADE20K, Cityscapes, Pascal."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mvp_mm.datasets.checks.check import check_dataset
from mvp_mm.datasets.readers.semantic_map import read_label_map
from mvp_mm.datasets.vocabulary.class_lists import (
    first_synonym,
    get_name_style,
    load_vocabulary,
    spaced,
)
from mvp_mm.registry import DATASETS
from tests.helpers import ROOT, load_tool
from tests.test_datasets.miniature import (
    entries,
    moved,
    value_png,
)
from tests.test_datasets.miniature_maps import write_ade20k, write_cityscapes, write_voc
from tests.test_datasets.small_data import HEIGHT, SAMPLE, WIDTH, needs_sample, pipeline

ENTRIES = entries()
WRITERS = dict(ADEChallengeData2016=write_ade20k, cityscapes=write_cityscapes, VOCdevkit=write_voc)


def build(root, name, **changes):
    folder = ENTRIES[name]['data_root'].split('/')[1]
    if not (root / folder).exists():
        WRITERS[folder](root / folder)
    return DATASETS.build(dict(moved(ENTRIES[name], root), **changes))


def names_of(item):
    return [item['annotation'].vocabulary[label] for label in item['annotation'].labels]


@pytest.mark.parametrize('name, expected', [
    ('ade20k_semantic_val', ['wall', 'road', 'person']),
    ('cityscapes_semantic_val', ['road', 'person', 'car']),
    ('cityscapes_semantic_trainids_val', ['road', 'person', 'car']),
    ('pascal_context_val', ['aeroplane', 'bag', 'truck', 'wood']),
    ('pascal_context_listed_val', ['aeroplane', 'bag', 'wall', 'wood']),
    ('pascal_voc_val', ['aeroplane', 'tv monitor'])])
def test_values_mean_the_published_classes(tmp_path, name, expected):
    assert names_of(build(tmp_path, name).get_data_info(0)) == expected


def test_masks_and_boxes_are_the_maps_pixels(tmp_path):
    item = build(tmp_path, 'cityscapes_semantic_val').get_data_info(0)
    values = read_label_map(item['seg_map_path'])
    masks = coco_mask.decode(item['segmentations'])
    for k, value in enumerate((7, 24, 26)):
        assert np.array_equal(masks[..., k].astype(bool), values == value)
    assert item['boxes'][1].tolist() == [2, 12, 18, 18]


def test_ignored_pixels_are_void_in_evaluation(tmp_path):
    steps = [dict(s, type='LoadSemanticMap') if s['type'] == 'LoadPerceptionAnnotations' else s
             for s in pipeline(tmp_path, training=False)]
    dataset = build(tmp_path, 'pascal_voc_val', pipeline=steps)
    truth = dataset[0]['data_samples'][0].gt_eval
    values = read_label_map(dataset.get_data_info(0)['seg_map_path'])
    assert np.array_equal(truth['panoptic'] == 0, (values == 0) | (values == 255))
    assert [segment['label'] for segment in truth['segments_info']] == [0, 19]


def test_a_value_that_is_no_class_is_named(tmp_path):
    dataset = build(tmp_path, 'pascal_context_val')
    value_png(tmp_path / 'VOCdevkit/VOC2010/SegmentationClassContext/2008_000002.png', [60], 0)
    with pytest.raises(ValueError, match=r'2008_000002.png: values \[60\]'):
        dataset.get_data_info(0)


def test_a_missing_or_coloured_map_is_named(tmp_path):
    dataset = build(tmp_path, 'pascal_voc_val')
    path = tmp_path / 'VOCdevkit/VOC2012/SegmentationClass/2007_000033.png'
    Image.new('RGB', (WIDTH, HEIGHT)).save(path)
    with pytest.raises(ValueError, match='2007_000033.png must have one channel'):
        dataset.get_data_info(0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='2007_000033.png does not exist'):
        dataset.get_data_info(0)


@pytest.mark.parametrize('change, message', [
    (dict(values=[1, 2]), 'has 20 classes'), (dict(ignore=[20]), 'none of them in ignore'),
    (dict(vocabulary='voc'), "no class list 'voc'"), (dict(img_suffix='.gif', ann_file=''),
                                                      'no image')])
def test_settings_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, 'pascal_voc_val', **change)


@needs_sample
def test_real_ade20k_maps():
    root = SAMPLE / 'ade20k/ADEChallengeData2016'
    dataset = DATASETS.build(dict(ENTRIES['ade20k_semantic_val'], data_root=str(root)))
    assert len(dataset) == 2
    for k in range(2):
        item = dataset.get_data_info(k)
        with Image.open(item['img_path']) as image:
            assert item['segmentations'][0]['size'] == [image.height, image.width]
        covered = coco_mask.decode(item['segmentations']).sum(-1)
        assert covered.max() == 1 and covered.mean() > 0.9
        assert len(names_of(item)) >= 4


@needs_sample
@pytest.mark.parametrize('name, file', [
    ('ade20k_150', 'ade20k_150_short'), ('cityscapes_19', 'cityscapes_19'),
    ('pascal_voc_20', 'pascal_voc_20'), ('pascal_context_59', 'pascal_context_59')])
def test_class_lists_are_the_datasets_own(name, file):
    listed = (SAMPLE / f'class_names/{file}.txt').read_text().splitlines()
    joined = [name.replace(' ', '') for name in load_vocabulary(name)[0]]
    assert joined == [name.replace(' ', '') for name in listed]


@needs_sample
def test_contexts_second_order_is_that_of_the_459_ids():
    everything = (SAMPLE / 'class_names/pascal_context_459.txt').read_text().splitlines()
    spelled = {'potted plant': 'pottedplant', 'tv monitor': 'tvmonitor'}
    names, _ = load_vocabulary('pascal_context_59_by_id')
    ids = [everything.index(spelled.get(name, name)) + 1 for name in names]
    assert ids == sorted(set(ids)) == list(load_tool('data/prepare_pascal_context').CLASS_IDS)


@pytest.mark.parametrize('name, things', [
    ('ade20k_150', 100), ('cityscapes_19', 8), ('pascal_voc_20', 20)])
def test_number_of_things(name, things):
    names, flags = load_vocabulary(name)
    assert sum(flags) == things and len(set(names)) == len(names)


def test_context_orders_agree_on_the_flags():
    first, second = (dict(zip(*load_vocabulary(name), strict=True))
                     for name in ('pascal_context_59', 'pascal_context_59_by_id'))
    assert first == second


def test_ade20k_panoptic_names_are_first_synonyms(tmp_path):
    dataset = build(tmp_path, 'ade20k_panoptic_val')
    assert dataset.metainfo['classes'] == ('wall', 'road', 'person', 'window')
    assert dataset.metainfo['thing_flags'] == (False, False, True, True)
    assert dataset.get_data_info(0)['img_id'] == 'ADE_val_00000001'


def test_ade20k_instance_names_are_first_synonyms(tmp_path):
    assert build(tmp_path, 'ade20k_instance_val').metainfo['classes'] == ('person', 'window')


def test_cityscapes_images_lie_in_folders_of_cities(tmp_path):
    item = build(tmp_path, 'cityscapes_panoptic_val').get_data_info(0)
    assert item['img_path'].endswith(
        'leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png')
    assert names_of(item) == ['person', 'person', 'car', 'road']


@pytest.mark.parametrize('style, name, written', [
    (first_synonym, 'window ', 'window'), (first_synonym, 'road, route', 'road'),
    (spaced, 'bat_(animal)', 'bat (animal)'), (get_name_style(None), 'a_b, c', 'a_b, c')])
def test_styles_of_names(style, name, written):
    assert style(name) == written


def test_every_style_is_known_without_any_reader():
    code = ("import sys; from mvp_mm.datasets.vocabulary.class_lists import get_name_style; "
            "print(get_name_style('objects365')('Moniter/TV'))")
    run = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                         text=True, check=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == 'monitor/tv'


# As in COCO-Stuff: things and stuff in one map, gaps in the numbering, 255 not annotated.
STUFF_NAMES = ['person', 'bicycle', 'traffic light', 'banner', 'wood']
STUFF_VALUES = [0, 1, 9, 91, 181]


def stuff_maps(root, **changes):
    (root / 'img').mkdir(exist_ok=True)
    (root / 'maps').mkdir(exist_ok=True)
    values = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    values[:5], values[5:9, :10], values[9:15, 10:] = 181, 0, 9
    Image.fromarray(values).save(root / 'maps/a.png')
    Image.new('RGB', (WIDTH, HEIGHT)).save(root / 'img/a.jpg')
    return dict(dict(
        type='SemanticMapDataset', data_root=str(root), data_prefix=dict(img='img', seg='maps'),
        vocabulary=STUFF_NAMES, stuff=['banner', 'wood'], values=STUFF_VALUES, ignore=[255]),
        **changes)


@pytest.mark.parametrize('from_files', [False, True])
def test_maps_of_classes_of_ones_own_are_read(tmp_path, from_files):
    cfg = stuff_maps(tmp_path)
    if from_files:
        (tmp_path / 'names.txt').write_text('\ufeff' + '\r\n'.join(STUFF_NAMES) + '\n\n')
        (tmp_path / 'stuff.txt').write_text('banner\nwood\n')
        cfg.update(vocabulary='names.txt', stuff='stuff.txt')
    dataset = DATASETS.build(cfg)
    assert dataset.metainfo['classes'] == tuple(STUFF_NAMES)
    assert dataset.metainfo['thing_flags'] == (True, True, True, False, False)
    item = dataset.get_data_info(0)
    assert names_of(item) == ['person', 'traffic light', 'wood']
    values = np.asarray(Image.open(tmp_path / 'maps/a.png'))
    masks = coco_mask.decode(item['segmentations'])
    for k, value in enumerate((0, 9, 181)):
        assert np.array_equal(masks[..., k].astype(bool), values == value)
    assert check_dataset(cfg).faults == []


@pytest.mark.parametrize(('change', 'message'), [
    (dict(stuff=None), r'vocabulary: say which of these classes are stuff: stuff=\[names\], or'),
    (dict(stuff=['wall']), r"vocabulary: stuff has names that are no classes: \['wall'\]"),
    (dict(vocabulary=['a', 'b', 'a ']), r"vocabulary: repeated class names \['a'\]"),
    (dict(vocabulary=['a', ' ']), 'vocabulary: empty class names or names that are no text'),
    (dict(vocabulary=['a', None]), r'names that are no text, in \[None\]'),
    (dict(vocabulary='gone.txt'), "no class list 'gone.txt', there are .*, and no file .*gone.txt"),
    (dict(vocabulary='pascal_voc_20'), 'pascal_voc_20 says itself which classes are stuff'),
    (dict(values=[0, 1, 9, 91]), r'vocabulary has 5 classes: as many .* got \[0, 1, 9, 91\]'),
    (dict(values=[0, 1, 9, 91, 255]), 'vocabulary has 5 classes'),
    (dict(values=[0, 1, 9, 91, 91]), 'vocabulary has 5 classes')])
def test_classes_of_ones_own_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        DATASETS.build(stuff_maps(tmp_path, **change))


def test_unknown_style():
    with pytest.raises(ValueError, match="or None, got 'shouted'"):
        get_name_style('shouted')
