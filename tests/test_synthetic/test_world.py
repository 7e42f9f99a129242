# Copyright (c) mvp_mm authors. All rights reserved.
"""The synthetic world: layouts, truth of the expressions, determinism."""
from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mvp_mm.synthetic import (
    COLOURS,
    STUFF_CLASSES,
    THING_CLASSES,
    WorldParameters,
    make_world,
)
from tests.test_synthetic.conftest import PARAMETERS

SPLITS = ('train', 'val')


def read(path):
    return json.loads(path.read_text())


def references(world):
    return pickle.loads((world / 'refer' / 'refcoco' / 'refs(unc).p').read_bytes())


def groups(world):
    return read(world / 'refer' / 'grefcoco' / 'grefs(unc).json')


def panoptic_ids(world, split, annotation):
    path = world / 'annotations' / f'panoptic_{split}' / annotation['file_name']
    b, g, r = np.moveaxis(cv2.imread(str(path)).astype(np.int64), -1, 0)
    return r + 256 * g + 256 ** 2 * b


@pytest.mark.parametrize('split', SPLITS)
def test_images_have_the_size_their_entry_says(world, split):
    images = read(world / 'annotations' / f'panoptic_{split}.json')['images']
    assert len(images) == getattr(PARAMETERS, split)
    for image in images:
        shape = cv2.imread(str(world / 'images' / split / image['file_name'])).shape
        assert shape == (image['height'], image['width'], 3)
        assert max(shape) == 128 and min(shape[:2]) in (112, 128)


@pytest.mark.parametrize('split', SPLITS)
def test_panoptic_png_agrees_with_its_json(world, split):
    data = read(world / 'annotations' / f'panoptic_{split}.json')
    stuff = {c['id'] for c in data['categories'] if not c['isthing']}
    for annotation in data['annotations']:
        ids = panoptic_ids(world, split, annotation)
        segments = annotation['segments_info']
        assert set(np.unique(ids)) == {s['id'] for s in segments}
        kinds = [s['category_id'] for s in segments if s['category_id'] in stuff]
        assert kinds and len(kinds) == len(set(kinds))
        for segment in segments:
            ys, xs = np.nonzero(ids == segment['id'])
            assert segment['area'] == len(ys)
            assert segment['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]


def test_category_ids_have_gaps(world):
    categories = read(world / 'annotations' / 'panoptic_train.json')['categories']
    ids = sorted(c['id'] for c in categories)
    assert [c['name'] for c in categories] == [*THING_CLASSES, *STUFF_CLASSES]
    assert ids != list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize('split', SPLITS)
def test_instance_masks_decode_to_the_panoptic_masks(world, split):
    coco = COCO(str(world / 'annotations' / f'instances_{split}.json'))
    data = read(world / 'annotations' / f'panoptic_{split}.json')
    things = {c['id'] for c in data['categories'] if c['isthing']}
    polygons = 0
    for annotation in data['annotations']:
        ids = panoptic_ids(world, split, annotation)
        segments = [s for s in annotation['segments_info'] if s['category_id'] in things]
        instances = coco.imgToAnns[annotation['image_id']]
        assert len(segments) == len(instances) >= 2
        for segment, instance in zip(segments, instances, strict=True):
            expected, mask = ids == segment['id'], coco.annToMask(instance).astype(bool)
            assert (mask & expected).sum() >= 0.98 * (mask | expected).sum()
            assert instance['category_id'] == segment['category_id']
            assert (instance['bbox'], instance['area']) == (segment['bbox'], segment['area'])
            assert instance['area'] >= 80
            polygons += isinstance(instance['segmentation'], list)
    assert polygons > 0.8 * len(coco.anns)


def test_objects365_layout_is_boxes_only(world):
    boxes = read(world / 'annotations' / 'objects365_val.json')['annotations']
    instances = read(world / 'annotations' / 'instances_val.json')['annotations']
    assert [b['bbox'] for b in boxes] == [a['bbox'] for a in instances]
    assert all('segmentation' not in b for b in boxes)


def test_grounding_phrases_name_the_class_of_every_box(world):
    data = read(world / 'annotations' / 'grounding_val.json')
    names = {c['id']: c['name'] for c in read(
        world / 'annotations' / 'instances_val.json')['categories']}
    classes = {a['id']: names[a['category_id']] for a in read(
        world / 'annotations' / 'instances_val.json')['annotations']}
    captions = {image['id']: image['caption'] for image in data['images']}
    assert len(data['annotations']) == len(classes)
    for annotation in data['annotations']:
        (start, end), = annotation['tokens_positive']
        assert classes[annotation['id']] in captions[annotation['image_id']][start:end]


def test_refer_references_name_annotations_of_their_image(world):
    data = read(world / 'refer' / 'refcoco' / 'instances.json')
    annotations = {a['id']: a for a in data['annotations']}
    images = {image['id']: image['file_name'] for image in data['images']}
    sentence_ids = []
    for ref in references(world):
        annotation = annotations[ref['ann_id']]
        assert annotation['image_id'] == ref['image_id']
        assert annotation['category_id'] == ref['category_id']
        assert (world / 'images' / images[ref['image_id']]).is_file()
        assert images[ref['image_id']].startswith(ref['split'])
        assert [s['sent_id'] for s in ref['sentences']] == ref['sent_ids']
        assert all(s['tokens'] == s['sent'].split() and len(s['tokens']) <= 15
                   for s in ref['sentences'])
        sentence_ids += ref['sent_ids']
    assert len(sentence_ids) == len(set(sentence_ids))


def test_grefcoco_flags_and_lists_agree(world):
    annotations = {a['id']: a for a in read(
        world / 'refer' / 'grefcoco' / 'instances.json')['annotations']}
    for ref in groups(world):
        assert ref['no_target'] == (ref['ann_id'] == [-1]) == (ref['category_id'] == [-1])
        if not ref['no_target']:
            assert ref['category_id'] == [annotations[k]['category_id'] for k in ref['ann_id']]
            assert {annotations[k]['image_id'] for k in ref['ann_id']} == {ref['image_id']}


def test_grefcoco_mixes_no_one_and_many_targets(world):
    counts = np.bincount([0 if r['no_target'] else min(len(r['ann_id']), 2)
                          for r in groups(world)])
    none, one, many = counts / counts.sum()
    assert 0.2 < none < 0.4 and 0.15 < one < 0.45 and 0.3 < many < 0.5


@pytest.mark.parametrize('split', SPLITS)
def test_a_third_of_the_expressions_are_ordinal_or_relation(world, split):
    kinds = [s['kind'] for ref in references(world) + groups(world) if ref['split'] == split
             for s in ref['sentences']]
    assert np.mean([kind in ('ordinal', 'relation') for kind in kinds]) >= 0.35


def test_chat_captions_name_colour_and_shape_of_everything(world):
    names = {image['id']: image['file_name'] for image in read(
        world / 'annotations' / 'instances_val.json')['images']}
    chats = {Path(c['image']).name: c for c in read(world / 'annotations' / 'captions_val.json')}
    shapes = {c['id']: c['name'] for c in read(
        world / 'annotations' / 'instances_val.json')['categories']}
    for annotation in read(world / 'annotations' / 'instances_val.json')['annotations']:
        chat = chats[names[annotation['image_id']]]
        human, answer = chat['conversations']
        assert (world / chat['image']).is_file()
        assert human['value'].startswith('<image>\n')
        assert shapes[annotation['category_id']] in answer['value']
        assert any(colour in answer['value'] for colour in COLOURS)


def test_planted_captions_are_the_bad_ones(world):
    store = read(world / 'captions' / 'train.json')
    planted = read(world / 'captions' / 'train_planted.json')
    assert len(store['captions']) == PARAMETERS.train and len(store['captioners']) == 4
    for name, captions in store['captions'].items():
        assert len(captions) == 4
        for index, caption in enumerate(captions):
            fault = planted.get(name, {}).get(str(index))
            words = caption.split()
            assert (not words) == (fault == 'empty')
            assert (len(words) > 2 and len(set(words)) == 1) == (fault == 'repetitive')
            if fault is None:
                assert len(words) <= 40 and 'might' not in words and 'seems' not in words


def test_counts_in_captions_are_true(world):
    planted = read(world / 'captions' / 'val_planted.json')
    data = read(world / 'annotations' / 'instances_val.json')
    shapes = {c['id']: c['name'] for c in data['categories']}
    numbers = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']
    captions = read(world / 'captions' / 'val.json')['captions']
    for image in data['images']:
        if '1' in planted.get(image['file_name'], {}):
            continue
        words = captions[image['file_name']][1].replace(',', '').split()
        present = [shapes[a['category_id']] for a in data['annotations']
                   if a['image_id'] == image['id']]
        for shape in set(present):
            at = next(i for i, word in enumerate(words) if word.startswith(shape))
            assert numbers.index(words[at - 1]) == present.count(shape)


def test_splits_are_disjoint(world):
    ids, pictures = [], []
    for split in SPLITS:
        images = read(world / 'annotations' / f'instances_{split}.json')['images']
        ids += [image['id'] for image in images]
        pictures += [(world / 'images' / split / image['file_name']).read_bytes()
                     for image in images]
    assert len(ids) == len(set(ids)) == len(set(pictures)) == PARAMETERS.train + PARAMETERS.val


def test_two_workers_make_the_same_files_as_one(world, tmp_path):
    make_world(tmp_path / 'again', PARAMETERS, workers=2)
    files = sorted(p.relative_to(world) for p in world.rglob('*') if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / 'again')
                           for p in (tmp_path / 'again').rglob('*') if p.is_file())
    for name in files:
        assert (world / name).read_bytes() == (tmp_path / 'again' / name).read_bytes(), name


def test_an_image_does_not_depend_on_the_number_of_images(world, tmp_path):
    make_world(tmp_path / 'short', WorldParameters(seed=7, train=1, val=1))
    for split in SPLITS:
        path, = (tmp_path / 'short' / 'images' / split).iterdir()
        assert path.read_bytes() == (world / 'images' / split / path.name).read_bytes()


def test_second_run_leaves_the_world_alone_and_others_are_refused(world):
    before = (world / 'images' / 'train').stat().st_mtime_ns
    assert make_world(world, PARAMETERS)['complete']
    assert (world / 'images' / 'train').stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match='world.json describes another world'):
        make_world(world, WorldParameters(seed=8, train=40, val=24))


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_foreign_folder_is_never_replaced(tmp_path, overwrite):
    (tmp_path / 'images').mkdir()
    with pytest.raises(FileExistsError, match='not a synthetic world'):
        make_world(tmp_path, WorldParameters(train=1, val=1), overwrite=overwrite)
    assert (tmp_path / 'images').is_dir()


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match='train=0'):
        WorldParameters(train=0)
