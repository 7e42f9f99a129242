# Copyright (c) mvp_mm authors. All rights reserved.
"""The commands that prepare datasets write what readers take, and name what they cannot use."""
from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.helpers import load_tool
from tests.test_datasets.miniature import (
    write_tars,
)
from tests.test_datasets.small_data import write_json


def test_held_out_images_are_listed_with_counts(monkeypatch, coco, capsys):
    refs = sorted((coco / 'refer').glob('*/refs*.p'))
    out = coco / 'held_out.txt'
    monkeypatch.setattr(sys, 'argv', ['x', *map(str, refs), '--out', str(out), '--coco', str(
        coco / 'coco/annotations/panoptic_train2017.json')])
    load_tool('data/list_held_out_images').main()
    text = capsys.readouterr().out
    assert 'refcoco+/refs(unc).p testB: 1 images' in text and 'held out: 1 images' in text
    assert 'panoptic_train2017.json: 1 of 2 images leave, 1 stay' in text
    assert out.read_text() == '2\n'


def test_generalised_references_hold_images_out_too(monkeypatch, coco, capsys):
    refs = coco / 'refer/grefcoco/grefs(unc).json'
    monkeypatch.setattr(sys, 'argv', ['x', str(refs), '--coco', str(
        coco / 'coco/annotations/panoptic_train2017.json')])
    load_tool('data/list_held_out_images').main()
    text = capsys.readouterr().out
    assert 'grefcoco/grefs(unc).json testA: 1 images' in text and 'held out: 1 images' in text
    assert 'panoptic_train2017.json: 1 of 2 images leave, 1 stay' in text


@pytest.mark.parametrize('content, message', [
    (dict(annotations=[]), 'must have a list of images'),
    (dict(images=5), 'must have a list of images'),
    (dict(images=[dict(file_name='a')]), 'image number 0 lacks id')])
def test_a_file_without_images_is_named_by_the_list(monkeypatch, coco, content, message):
    write_json(coco / 'other.json', content)
    monkeypatch.setattr(sys, 'argv', ['x', str(coco / 'refer/refcoco/refs(unc).p'), '--coco',
                                      str(coco / 'other.json')])
    with pytest.raises(SystemExit, match=f'error: .*other.json: .*{message}'):
        load_tool('data/list_held_out_images').main()


def test_tars_are_indexed_by_the_command(monkeypatch, tmp_path, capsys):
    write_tars(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['x', str(tmp_path)])
    load_tool('data/index_tars').main()
    assert capsys.readouterr().out == '2 tars, 5 samples, 1 without image, 0 without caption\n'


def test_pascal_context_is_prepared(monkeypatch, tmp_path, capsys):
    (tmp_path / 'trainval').mkdir()
    labels = np.array([[2, 9, 458], [3, 459, 424]], dtype=np.uint16)
    savemat(tmp_path / 'trainval/2008_000002.mat', dict(LabelMap=labels))
    monkeypatch.setattr(sys, 'argv', ['x', str(tmp_path)])
    tool = load_tool('data/prepare_pascal_context')
    tool.main()
    with Image.open(tmp_path / 'SegmentationClassContext/2008_000002.png') as image:
        assert np.array(image).tolist() == [[1, 2, 59], [0, 0, 54]]
    tool.main()
    assert capsys.readouterr().out.splitlines() == ['1 maps, 1 written', '1 maps, 0 written']
