# Copyright (c) mvp_mm authors. All rights reserved.
"""A check finds what is wrong with a dataset, and nothing else."""
from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
from PIL import Image

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.datasets.indexing import coco as coco_index
from mvp_mm.datasets.indexing import json_stream
from mvp_mm.datasets.readers.tar_images import write_tar_index
from tests.helpers import load_tool
from tests.test_datasets.miniature import (
    entries,
    moved,
    segment_png,
    write_all,
    write_tars,
)
from tests.test_datasets.small_data import SAMPLE, needs_sample, write_json

ENTRIES = entries()


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp('sound')
    write_all(root)
    tars = root / 'cc3m_tars'
    write_tar_index(sorted(tars.glob('*.tar')), tars / 'index.jsonl')
    return root


@pytest.mark.parametrize('name', sorted(
    name for name in ENTRIES if '_joined' not in name and '_boxes' not in name))
def test_a_sound_tree_has_no_fault(sound, name):
    report = check_dataset(moved(ENTRIES[name], sound))
    # One ODVG box is planted outside its image.
    expected = ['box outside the image'] if name == 'odvg_detection' else []
    assert list(report.by_kind) == expected
    assert report.counts['samples read'] > 0 and report.counts['image files looked at'] > 0


def found(root: Path, name: str, **changes) -> list[tuple[str, str]]:
    report = check_dataset(dict(moved(ENTRIES[name], root), **changes))
    return [(fault.kind, fault.where) for fault in report.faults
            if fault.kind != 'refused by the reader']


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    # As Python writes it, with NaN.
    write_json(path, content)


BOXES_AT_FAULT = {
    'box not finite': [float('nan'), 0, 3, 3], 'reversed box': [9, 9, -3, 3],
    'box without area': [3, 3, 0, 4], 'box outside the image': [31, 2, 5, 5],
    'broken box': [1, 2]
}


@pytest.mark.parametrize('kind', BOXES_AT_FAULT)
def test_a_bad_box_is_found(coco, kind):
    def change(content):
        content['annotations'][4]['bbox'] = BOXES_AT_FAULT[kind]
    change_json(coco / 'coco/annotations/instances_train2017.json', change)
    (name, where), = found(coco, 'coco_instance_train')
    assert name == kind and where.startswith('annotation 21')


@pytest.mark.parametrize('change, fault', [
    (dict(image_id=99), ('unknown image', 'annotation 21')),
    (dict(category_id=99), ('unknown category', 'annotation 21')),
    (dict(id=10), ('duplicate id', 'annotation 10')),
    (dict(segmentation=[[1, 2, 3]]), ('broken mask', 'annotation 21')),
    (dict(segmentation=dict(size=[9, 9], counts=[81])), ('broken mask', 'annotation 21')),
    (dict(segmentation=dict(size=[20, 30], counts=[5])), ('broken mask', 'annotation 21')),
    (dict(segmentation=dict(size=[20, 30], counts=[600])), ('empty mask', 'annotation 21'))])
def test_a_bad_annotation_is_found(coco, change, fault):
    change_json(coco / 'coco/annotations/instances_train2017.json',
                lambda content: content['annotations'][4].update(change))
    assert found(coco, 'coco_instance_train') == [fault]


def test_a_repeated_image_and_a_missing_key_are_found(coco):
    def change(content):
        content['images'].append(content['images'][0])
        del content['annotations'][0]['bbox']
    change_json(coco / 'coco/annotations/instances_train2017.json', change)
    assert sorted(found(coco, 'coco_instance_train')) == [
        ('duplicate id', 'image 1'), ('missing key', 'annotation 10')]


@pytest.mark.parametrize('spoil, kind', [
    (lambda path: path.unlink(), 'missing image'),
    (lambda path: path.write_bytes(b''), 'broken image'),
    (lambda path: path.write_bytes(path.read_bytes()[:-300]), 'broken image'),
    (lambda path: Image.new('RGB', (31, 20)).save(path), 'image size')])
def test_a_bad_image_is_found(coco, spoil, kind):
    spoil(coco / 'coco/train2017/000000000002.jpg')
    assert found(coco, 'coco_instance_train') == [(kind, 'image 2')]


def test_grey_images_and_exif_orientations_are_counted(coco):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new('L', (20, 30)).save(coco / 'coco/train2017/000000000002.jpg', exif=tag)
    report = check_dataset(moved(ENTRIES['coco_instance_train'], coco))
    assert not report.faults
    assert report.notes == {
        'images of mode L': 1, 'images with an EXIF orientation, turned or mirrored': 1}


def test_a_panoptic_map_that_differs_from_its_json_is_found(coco):
    segment_png(coco / 'coco/annotations/panoptic_train2017/000000000002.png', [1, 7, 66000, 255])
    assert sorted(found(coco, 'coco_panoptic_train')) == [
        ('segment not in the JSON', 'image 2'), ('segment without pixels', 'image 2')]


@pytest.mark.parametrize('change, kind', [
    (dict(ann_id=999), 'unknown annotation'), (dict(image_id=99), 'unknown image'),
    (dict(sentences=[]), 'empty sentence'), (dict(ref_id=2), 'duplicate id')])
def test_a_bad_reference_is_found(coco, change, kind):
    path = coco / 'refer/refcoco/refs(unc).p'
    refs = pickle.loads(path.read_bytes())
    refs[0].update(change)
    path.write_bytes(pickle.dumps(refs))
    assert kind in {kind for kind, _ in found(coco, 'refcoco_train')}


def spoil_many(content):
    first, second, third = content['annotations'][:3]
    first['image_id'] = 99
    del second['category_id']
    third['bbox'] = [3, 3, 0, 4]
    content['images'].append(dict(content['images'][0], id='x'))
    content['annotations'].append(dict(content['annotations'][4]))


def test_a_large_file_at_fault_is_checked_to_its_end(coco, monkeypatch):
    path = coco / 'coco/annotations/instances_train2017.json'
    change_json(path, spoil_many)
    small = sorted(found(coco, 'coco_instance_train'))
    monkeypatch.setattr(coco_index, 'KEEP_IN_MEMORY', 0)
    assert sorted(found(coco, 'coco_instance_train')) == small
    assert [kind for kind, _ in small] == [
        'box without area', 'broken record', 'duplicate id', 'missing key', 'unknown image']


def test_a_sound_large_file_is_checked_from_its_index(coco, monkeypatch):
    monkeypatch.setattr(coco_index, 'KEEP_IN_MEMORY', 0)
    assert found(coco, 'coco_instance_train') == []
    monkeypatch.setattr(json_stream.JsonStream, 'records', lambda *args: pytest.fail('read again'))
    assert found(coco, 'coco_instance_train') == []


def test_a_no_target_reference_with_targets_is_found(coco):
    change_json(coco / 'refer/grefcoco/grefs(unc).json', lambda refs: refs[1].update(ann_id=[10]))
    assert found(coco, 'grefcoco_train') == [('contradiction', 'reference 1')]


def test_a_cut_tar_is_found(tmp_path):
    tars = tmp_path / 'cc3m_tars'
    write_tars(tars)
    write_tar_index(sorted(tars.glob('*.tar')), tars / 'index.jsonl')
    content = (tars / '00001.tar').read_bytes()
    (tars / '00001.tar').write_bytes(content[:-1])
    assert [kind for kind, _ in found(tmp_path, 'cc3m_tars')] == ['tar file']


def test_a_map_with_another_value_is_found(sound):
    cfg = dict(moved(ENTRIES['pascal_voc_val'], sound), ignore=[255])
    fault, = check_dataset(cfg).by_kind['unknown class value']
    assert fault.message.endswith('2007_000033.png: values [0]')


def test_workers_find_the_same(coco):
    (coco / 'coco/train2017/000000000002.jpg').unlink()
    cfg = moved(ENTRIES['coco_instance_train'], coco)
    assert check_dataset(cfg, workers=2).to_dict() == check_dataset(cfg).to_dict()


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match='type MultiSourceDataset cannot be checked'):
        check_dataset(dict(type='MultiSourceDataset'))


def run(monkeypatch, tool: str, *args) -> int:
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    try:
        load_tool(f'data/{tool}').main()
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_the_command_ends_with_the_outcome(monkeypatch, coco, capsys):
    args = (coco / 'coco', '--format', 'coco_panoptic_train', '--out', coco / 'report.json')
    assert run(monkeypatch, 'check_dataset', *args) == 0
    (coco / 'coco/train2017/000000000002.jpg').unlink()
    assert run(monkeypatch, 'check_dataset', *args) == 1
    assert 'FAULT: missing image: 1\n    image 2:' in capsys.readouterr().out
    report, = json.loads((coco / 'report.json').read_text())
    assert report['faults_by_kind'] == {'missing image': 1}
    assert report['faults'][0]['where'] == 'image 2'


def test_the_command_takes_a_configs_entry(monkeypatch, coco, capsys):
    config = coco / 'my.py'
    cfg = moved(ENTRIES['coco_instance_train'], coco)
    config.write_text(f'train_dataloader = dict(dataset={cfg!r})\n_unused = dict({cfg!r})\n')
    assert run(monkeypatch, 'check_dataset', config) == 0
    assert capsys.readouterr().out.startswith('train_dataloader.dataset\n')


@pytest.mark.parametrize('args, message', [
    (['.'], 'needs --format, one of: ade20k'), (['.', '--format', 'coko'], 'needs --format'),
    (['nowhere'], "'nowhere' does not exist")])
def test_the_command_says_what_it_needs(monkeypatch, capsys, args, message):
    assert run(monkeypatch, 'check_dataset', *args) == 2
    assert message in capsys.readouterr().err


@needs_sample
def test_the_real_references_are_sound():
    cfg = dict(ENTRIES['refcoco_val'], data_root=str(SAMPLE / 'refer'))
    report = check_dataset(cfg)
    assert not report.faults
    assert report.counts['sentences of the split'] == 11


@needs_sample
def test_the_real_semantic_maps_are_sound():
    root = SAMPLE / 'ade20k/ADEChallengeData2016'
    report = check_dataset(dict(ENTRIES['ade20k_semantic_val'], data_root=str(root)))
    assert not report.faults and report.counts['images'] == 2
