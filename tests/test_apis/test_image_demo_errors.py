# Copyright (c) mvp_mm authors. All rights reserved.
"""The demo refuses mistakes in one line, before it builds a model."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mvp_mm.apis.stored_config import config_of
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.registry import TASKS
from mvp_mm.utils.checkpoint_io import read_checkpoint

DEMO = Path(__file__).parents[2] / 'demo' / 'image_demo.py'
WEIGHTS = dict(a=torch.zeros(1))
CONFIG = """
inferencer = dict(
    pipeline=[], tasks=dict(find=dict(type='_ListTask'), refer=dict(type='_TextTask')))
"""


class _ListTask:

    def ask(self, words=None, text=None):
        if not words or text:
            raise ValueError('Task find takes words,\nnot a text')


class _TextTask:

    def ask(self, words=None, text=None):
        if words or not text:
            raise ValueError('Task refer takes a text')


@pytest.fixture(scope='module')
def demo():
    spec = importlib.util.spec_from_file_location('image_demo', DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for task in (_ListTask, _TextTask):
        TASKS.register_module(module=task, force=True)
    yield module
    for task in (_ListTask, _TextTask):
        TASKS.module_dict.pop(task.__name__)


@pytest.fixture
def files(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.png'), np.zeros((8, 8, 3), dtype=np.uint8))
    (tmp_path / 'broken.png').write_bytes(b'not an image')
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'broken.pth').write_bytes(b'not weights')
    torch.save(dict(meta=dict(cfg=CONFIG), state_dict=WEIGHTS), tmp_path / 'weights.pth')
    torch.save(dict(state_dict=WEIGHTS), tmp_path / 'bare.pth')
    return tmp_path


@pytest.mark.parametrize(('image', 'arguments', 'message'), [
    ('missing.png', '--task find --words cat --weights weights.pth', 'No such image file'),
    ('broken.png', '--task find --words cat --weights weights.pth', 'is not a readable image'),
    ('empty.png', '--task find --words cat --weights weights.pth', 'empty.png is empty'),
    ('image.png', '--task find --words cat --weights missing.pth', 'no such file or folder'),
    ('image.png', '--task find --words cat --weights broken.pth', 'is a text file'),
    ('image.png', '--task find --words cat --weights bare.pth', 'stores no config'),
    ('image.png', '--task find --words cat --weights weights.pth --config none.py',
     'No such config file'),
    ('image.png', '--task fly --words cat --weights weights.pth',
     "Unknown task 'fly', choose from find, refer"),
    ('image.png', '--task find --weights weights.pth', 'Task find takes words, not a text'),
    ('image.png', '--task find --words cat,,dog --weights weights.pth', 'empty phrase'),
    ('image.png', '--task find --words cat,dog,cat --weights weights.pth', 'cat more than once'),
    ('image.png', '--task refer --words cat --weights weights.pth', 'Task refer takes a text'),
    ('image.png', '--task refer --text= --weights weights.pth', '--text is empty'),
    ('image.png', '--task refer --text cat --words cat --weights weights.pth', 'not allowed'),
    ('image.png', '--words cat --weights weights.pth', '--task'),
    ('image.png', '--task find --words cat', '--weights'),
    ('image.png', '--task find --words cat --weights weights.pth --score-thr x', 'invalid float'),
])
def test_one_clear_line(demo, files, image, arguments, message, capfd, monkeypatch):
    monkeypatch.chdir(files)
    try:
        code = demo.main([image, *arguments.split()])
    except SystemExit as stop:
        code = stop.code
    captured = capfd.readouterr()
    assert code == 2
    assert captured.err.count('\n') == 1 and message in captured.err
    assert captured.out == ''
    assert not (files / 'outputs').exists()


def test_a_config_with_code_is_refused(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(meta=dict(cfg='import os\nmodel = dict(a=1)'), state_dict=WEIGHTS), path)
    with pytest.raises(ValueError, match='more than literals'):
        config_of(read_checkpoint(path), path)


def test_a_checkpoint_with_objects_is_refused(tmp_path):
    torch.save(dict(state_dict=WEIGHTS, extra=_Marker()), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='holds a Python object'):
        read_checkpoint(tmp_path / 'weights.pth')


class _Marker:
    pass


def test_weights_must_fit():
    model = torch.nn.Linear(2, 3)
    state = dict(weight=torch.zeros(3, 5), extra=torch.zeros(1))
    with pytest.raises(ValueError, match=r'1 missing \(bias\); 1 unexpected \(extra\); 1 of ano'):
        load_whole(model, state, 'weights.pth')
    assert load_whole(model, model.state_dict(), 'weights.pth') is model
