# Copyright (c) mvp_mm authors. All rights reserved.
"""The check of a dataset names what its reader refuses, and nothing that it takes."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.registry import DATASETS
from tests.test_datasets.miniature import entries, moved, write_all
from tests.test_datasets.small_data import HEIGHT, WIDTH, pipeline


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp('trees')
    write_all(root)
    return root


def make(root, name, map_loader='LoadPerceptionAnnotations'):
    cfg = moved(entries()[name], root)
    steps = pipeline(root, training=False)
    steps[2] = dict(type=map_loader)
    return dict(cfg, tasks=[dict(task, response='none') for task in cfg['tasks']], pipeline=steps,
                test_mode=True)


@pytest.fixture
def damaged():
    """Changes a file, which is put back after the test."""
    kept = {}

    def change(path: Path, write):
        kept[path] = path.read_bytes()
        write(path)

    yield change
    for path, data in kept.items():
        if path.is_dir():
            path.rmdir()
        path.write_bytes(data)


def change_json(change):
    def write(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return write


@pytest.mark.parametrize('loader', ['LoadSemanticMap', 'LoadPerceptionAnnotations'])
def test_a_map_of_another_size_is_refused_even_where_it_holds_no_class(trees, damaged, loader):
    cfg = make(trees, 'pascal_voc_val', loader)
    path = Path(cfg['data_root']) / 'SegmentationClass/2007_000033.png'
    damaged(path, Image.new('L', (WIDTH - 1, HEIGHT)).save)
    with pytest.raises(ValueError, match=r'2007_000033.* \(20, 30\) \(h, w\).*\(20, 29\)'):
        DATASETS.build(cfg)[0]
    assert 'map size' in check_dataset(cfg).by_kind


def test_a_target_outside_its_image_is_named(trees, damaged):
    cfg = make(trees, 'reason_seg_val')
    far = [[900, 900], [950, 900], [950, 950]]
    damaged(Path(cfg['data_root']) / 'val/7_val.json', change_json(
        lambda content: [shape.update(points=far) for shape in content['shapes']]))
    with pytest.raises(ValueError, match='7_val.json: no pixel of image 7_val belongs to the tar'):
        DATASETS.build(cfg)[0]
    assert [(fault.kind, fault.where) for fault in check_dataset(cfg).faults] == [
        ('empty mask', 'image 7_val')]


def test_labels_of_shapes_are_read_without_spaces(trees, damaged):
    cfg = make(trees, 'reason_seg_val')

    def box():
        return DATASETS.build(cfg)[0]['data_samples'][0].gt_eval['bboxes'].tolist()

    usual = box()
    damaged(Path(cfg['data_root']) / 'val/7_val.json', change_json(
        lambda content: [shape.update(label=f'{shape["label"]} ') for shape in content['shapes']]))
    assert box() == usual


def test_a_class_that_is_shown_and_named_absent_is_told_by_the_check(trees, damaged):
    cfg = make(trees, 'lvis_val')
    damaged(Path(cfg['data_root']) / cfg['ann_file'], change_json(
        lambda content: content['images'][0].update(neg_category_ids=[1, 3])))
    assert [(fault.where, fault.message) for fault in check_dataset(cfg).faults] == [
        ('image 3', 'shows category 1, which it names absent')]


@pytest.mark.parametrize('paths, told', [
    (dict(ann_file=7), 'ann_file must be a path, got 7'),
    (dict(data_prefix='img'), "data_prefix must name folders .* got 'img'"),
    (dict(data_prefix=dict(img=None)), 'data_prefix.img must be a path, got None'),
    (dict(data_root=['data']), r"data_root must be a path, got \['data'\]")])
def test_paths_of_another_type_are_named(trees, paths, told):
    cfg = dict(make(trees, 'coco_instance_val'), **paths)
    with pytest.raises(ValueError, match=f'CocoInstanceDataset: {told}'):
        DATASETS.build(cfg)
    assert 'refused by the reader' in check_dataset(cfg).by_kind


def test_a_folder_in_the_place_of_an_image_is_no_missing_image(trees, damaged):
    cfg = make(trees, 'coco_instance_val')
    path = Path(cfg['data_root']) / 'val2017/000000000003.jpg'
    damaged(path, lambda path: (path.unlink(), path.mkdir()))
    with pytest.raises(OSError, match='Is a directory'):
        DATASETS.build(cfg)[0]
    fault, = check_dataset(cfg).faults
    assert fault.kind == 'broken image' and 'Is a directory' in fault.message
