# Copyright (c) mvp_mm authors. All rights reserved.
"""Splitting and writing of own labels: the files are what the datasets read."""
from __future__ import annotations

import json

import numpy as np
import pytest

from mvp_mm.own_data import LabelError, read_labels, split_dataset, write_dataset
from mvp_mm.registry import DATASETS
from tests.test_own_data.label_files import WRITERS, write_voc


def written(name, tmp_path, **split):
    dataset = read_labels(WRITERS[name](tmp_path / 'labels'))
    split_dataset(dataset, **split)
    return dataset, write_dataset(dataset, tmp_path / 'out')


def built(kind, result, **kwargs):
    dataset = DATASETS.build(dict(
        type=kind, data_root=str(result.folder), data_prefix=dict(img=str(result.image_root)),
        tasks=[], pipeline=[], index_dir=str(result.folder / 'indices'), test_mode=True, **kwargs))
    dataset.full_init()
    return dataset


@pytest.mark.parametrize('name', ['coco', 'yolo', 'labelme', 'cvat'])
def test_written_masks_are_read_by_the_coco_dataset(name, tmp_path):
    _, result = written(name, tmp_path, val_share=0)
    assert result.kind == 'masks'
    dataset = built('CocoInstanceDataset', result, ann_file='train.json')
    items = {item['file_name'].split('/')[-1]: item
             for item in (dataset.get_data_info(k) for k in range(len(dataset)))}
    assert np.allclose(items['two.png']['boxes'], [[8, 4, 24, 28]], atol=1e-3)
    assert len(items['one.jpg']['segmentations']) == 2


def test_written_boxes_are_read_by_the_detection_dataset(tmp_path):
    _, result = written('voc', tmp_path, val_share=0)
    assert result.kind == 'boxes'
    dataset = built('BoxDetectionDataset', result, ann_file='val.json')
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert len(dataset) == 3


def test_written_expressions_are_read_by_the_reference_dataset(tmp_path):
    _, result = written('csv', tmp_path, val_share=0)
    assert result.kind == 'expressions'
    dataset = built('RefCocoDataset', result, ann_file='refs.json',
                    instances_file='instances.json', split='train')
    sentences = [referral.sentence for k in range(len(dataset))
                 for referral in dataset.get_data_info(k)['annotation'].referrals]
    assert sorted(sentences) == [
        'a cat, here', 'a dog, here', 'a dog, here', 'the cat', 'the dog', 'the dog']


def test_a_drawn_split_leaves_images_on_both_sides(tmp_path):
    dataset, result = written('yolo', tmp_path, val_share=0.01)
    assert sorted(image.split for image in dataset.images) == ['train', 'train', 'val']
    assert len(json.loads((result.folder / 'val.json').read_text())['images']) == 1


def test_a_draw_follows_its_seed(tmp_path):
    dataset = read_labels(write_voc(tmp_path))
    draws = []
    for seed in (0, 0, 1, 2, 3):
        for image in dataset.images:
            image.split = ''
        split_dataset(dataset, 0.3, seed)
        draws.append([image.split for image in dataset.images])
    assert draws[0] == draws[1]
    assert any(draw != draws[0] for draw in draws)


def test_a_split_that_some_images_lack_is_refused(tmp_path):
    dataset = read_labels(write_voc(tmp_path))
    dataset.images[0].split = 'val'
    with pytest.raises(LabelError, match='2 images have no split'):
        split_dataset(dataset)


def test_a_folder_with_files_is_never_written_over(tmp_path):
    dataset, result = written('voc', tmp_path, val_share=0)
    before = (result.folder / 'train.json').read_bytes()
    with pytest.raises(LabelError, match='not an empty folder'):
        write_dataset(dataset, result.folder)
    assert (result.folder / 'train.json').read_bytes() == before


def test_the_summary_counts_classes_and_what_was_passed_over(tmp_path):
    dataset = read_labels(WRITERS['yolo'](tmp_path / 'labels'))
    split_dataset(dataset)
    text = '\n'.join(write_dataset(dataset, tmp_path / 'out').summary)
    assert 'YOLO: 3 images, 3 objects, 1 images without objects' in text
    assert '2 classes: cat 1, dog 2' in text
    assert 'passed over: 1 images without a label file' in text


def yolo_with(tmp_path, train, val=''):
    """A YOLO file that names image lists for its splits."""
    source = WRITERS['yolo'](tmp_path / 'labels')
    for name, images in (('train', train), ('val', val)):
        if images:
            (source / f'{name}.txt').write_text('\n'.join(f'images/{i}' for i in images.split()))
    (source / 'data.yaml').write_text(
        'names: [cat, dog]\ntrain: train.txt\n' + ('val: val.txt\n' if val else ''))
    return read_labels(source)


ALL = 'one.jpg two.png three.png'


def test_labels_of_training_images_alone_are_split_by_a_draw(tmp_path):
    dataset = yolo_with(tmp_path, ALL)
    told = split_dataset(dataset)
    assert told.startswith('the labels name training images alone; drawn split')
    assert sorted(image.split for image in dataset.images) == ['train', 'train', 'val']


def test_one_list_for_both_splits_validates_on_the_training_images(tmp_path):
    dataset = yolo_with(tmp_path, ALL, ALL)
    assert 'a test of fitting alone' in split_dataset(dataset)
    assert {image.split for image in dataset.images} == {'both'}
    assert len(dataset.images) == 3


def test_one_list_for_both_splits_is_drawn_from_where_a_share_is_given(tmp_path):
    dataset = yolo_with(tmp_path, ALL, ALL)
    split_dataset(dataset, 0.3)
    assert sorted(image.split for image in dataset.images) == ['train', 'train', 'val']


def test_an_image_in_two_of_several_splits_is_refused(tmp_path):
    with pytest.raises(LabelError, match='1 images are in training and in validation.*two.png'):
        split_dataset(yolo_with(tmp_path, 'one.jpg two.png', 'two.png three.png'))


def test_two_coco_files_with_one_image_in_common_are_refused(tmp_path):
    source = WRITERS['coco'](tmp_path / 'labels')
    for name in ('train.json', 'val.json'):
        (source.parent / name).write_bytes(source.read_bytes())
    source.unlink()
    with pytest.raises(LabelError, match='3 images are in training and in validation'):
        split_dataset(read_labels(source.parent))


def test_a_share_is_refused_where_the_labels_name_a_split(tmp_path):
    with pytest.raises(LabelError, match='name a split of their own .2 train, 1 val.'):
        split_dataset(yolo_with(tmp_path, 'one.jpg two.png', 'three.png'), 0.2)
