# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers about photographs of a dataset, on one sheet."""
from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import load_tool

TOOL = load_tool('analysis_tools/photograph_sheet')


@pytest.fixture
def place(tmp_path):
    images = [dict(file_name=f'{i}.jpg', license=i % 2, flickr_url=f'http://photos/{i}')
              for i in (4, 2, 0, 1, 3)]
    names = [('dog', 1), ('wall-other-merged', 0)]
    (tmp_path / 'panoptic.json').write_text(json.dumps(dict(images=images, categories=[
        dict(name=name, isthing=isthing) for name, isthing in names])))
    for image in images:
        Image.new('RGB', (40, 20), (255, 0, 0)).save(tmp_path / image['file_name'])
    return tmp_path


def test_photographs_are_spread_over_the_file_and_its_categories_are_asked(place):
    files, words, stuff = TOOL.choose(place / 'panoptic.json', 3)
    assert list(files) == ['0.jpg', '2.jpg', '4.jpg'] and files['2.jpg'] == 'http://photos/2'
    assert (words, stuff) == (['dog', 'wall'], ['wall'])
    assert len(TOOL.choose(place / 'panoptic.json', 9)[0]) == 5


def test_photographs_of_a_licence_alone_are_chosen_where_it_is_named(place):
    assert list(TOOL.choose(place / 'panoptic.json', 9, [1, 4])[0]) == ['1.jpg', '3.jpg']
    with pytest.raises(ValueError, match=r'panoptic.json: no image has one of the licences \[7\]'):
        TOOL.choose(place / 'panoptic.json', 9, [7])


def test_each_photograph_stands_above_its_answer(place, monkeypatch, capsys):
    asked = []

    def model(image, **question):
        asked.append((image, question))
        return SimpleNamespace(segments=(None, [dict(label='dog', score=0.5)]),
                               plot=lambda: Image.new('RGB', (40, 20), (0, 0, 255)))

    monkeypatch.setattr(TOOL, 'MVP', lambda weights, config: model)
    monkeypatch.setattr('sys.argv', [
        'photograph_sheet', 'weights', '--annotations', str(place / 'panoptic.json'), '--images',
        str(place), '--out', str(place / 'out.png'), '--number', '5', '--height', '20'])
    TOOL.main()
    sheet = cv2.imread(str(place / 'out.png'))
    red, blue = (np.abs(sheet.astype(int) - colour).sum(-1) < 20 for colour in (
        (0, 0, 255), (255, 0, 0)))
    assert red.sum() == blue.sum() == 5 * 40 * 20
    assert red[:20].sum() == 4 * 40 * 20 and blue[-20:].sum() == 40 * 20
    assert len(asked) == 5 and asked[0][1]['words'] == ['dog', 'wall']
    assert capsys.readouterr().out.splitlines()[0] == '0.jpg http://photos/0: dog 0.50'
