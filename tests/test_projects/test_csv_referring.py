# Copyright (c) mvp_mm authors. All rights reserved.
"""The example of a CSV dataset: its reader, and the commands of its README."""
from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

from mvp_mm.engine import load_config
from mvp_mm.registry import DATASETS
from mvp_mm.structures import Referral
from tests.helpers import ROOT
from tests.test_docs.running import TINY, Follower, forget, make_place, save_checkpoint

CONFIG = 'projects/csv_referring/configs/csv_referring_tiny.py'
HEADER = 'image,expression,x,y,w,h\n'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the tiny model's data and CSV files of its expressions."""
    folder = make_place(tmp_path_factory.mktemp('csv_place'))
    own = folder / 'data/csv_referring'
    shutil.copytree(folder / 'data/own/images', own / 'images')
    truth = json.loads((folder / 'data/own/train.json').read_text())
    names = {image['id']: image['file_name'] for image in truth['images']}
    lines = [f'{names[a["image_id"]]},"thing {k}, that one",{",".join(map(str, a["bbox"]))}\n'
             for k, a in enumerate(truth['annotations'])]
    (own / 'train.csv').write_text(HEADER + ''.join(lines))
    (own / 'val.csv').write_text(HEADER + ''.join(lines[:3]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_checkpoint(folder, load_config(TINY))
    return folder


@pytest.fixture
def page(place, monkeypatch, capsys):
    yield Follower(place, monkeypatch, capsys)
    forget(place)


def build(page, content: str):
    (page.place / 'data/csv_referring/other.csv').write_text(content)
    cfg = load_config(CONFIG).test_dataloader.csv.dataset.to_dict()
    return DATASETS.build(dict(cfg, ann_file='other.csv', pipeline=[]))


def test_the_reader_takes_at_most_forty_lines():
    text = (ROOT / 'projects/csv_referring/csv_referring/dataset.py').read_text()
    assert len(text[text.index('@DATASETS'):].splitlines()) <= 40


def test_commands_of_the_readme_check_train_and_test(page):
    readme = (ROOT / 'projects/csv_referring/README.md').read_text()
    commands = re.findall(r'^PYTHONPATH=\. python (.*)$', readme, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = command.split()
        if words[0] == 'tools/train.py':
            words += ['--cfg-options', 'train_cfg.max_iters=2']
        printed = page.type(words)
        if words[0].endswith('check_dataset.py'):
            assert printed.count('no fault') == 2
    runner = page.runners['csv_referring_tiny.py']
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
    assert 0 <= page.metrics['csv_referring_tiny.py']['csv/referring/REC'] <= 100


def test_lines_of_an_image_are_one_item(page):
    dataset = build(page, '\ufeff' + HEADER + 'a.jpg,"left, the cat",1,2,3,4\n'
                    'b.jpg,a dog,0,0,9,9\na.jpg,the other,5,5,5.5,6\n')
    assert len(dataset) == 2
    info = dataset.get_data_info(0)
    assert info['boxes'].tolist() == [[1, 2, 4, 6], [5, 5, 10.5, 11]]
    assert info['annotation'].referrals == [
        Referral('left, the cat', [0], 2, 2), Referral('the other', [1], 4, 4)]


@pytest.mark.parametrize(('content', 'message'), [
    (HEADER + 'a.jpg,a cat,1,2,3\n', 'other.csv: line 2 is not image,expression,x,y,w,h'),
    (HEADER + 'a.jpg,a cat,1,2,3,4\nb.jpg,a cat,1,2,wide,4\n', "line 3 .*'wide'"),
    ('image,x,y,w,h\na.jpg,1,2,3,4\n', "line 2 .*'expression'"),
    (HEADER + 'a.jpg, ,1,2,3,4\n', "'referrals' entry 0 must begin with a sentence"),
    (HEADER + 'a.jpg,a cat,1,2,-3,4\n', 'negative size'),
    (HEADER, 'other.csv: no image is left')])
def test_broken_lines_are_named(page, content, message):
    with pytest.raises(ValueError, match=message):
        build(page, content)
