# Copyright (c) mvp_mm authors. All rights reserved.
"""The demo answers, and refuses in one line what only the model can find wrong."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import cv2
import pytest
import torch

from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, save_tokenizer

DEMO = ROOT / 'demo' / 'image_demo.py'


@pytest.fixture(scope='module')
def demo():
    spec = importlib.util.spec_from_file_location('image_demo', DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(demo, checkpoint, image, tmp_path, capfd):
    """``run(arguments)``: exit code, lines on stdout, text on stderr."""
    path = tmp_path / 'room.png'
    cv2.imwrite(str(path), image)

    def call(*arguments):
        code = demo.main([str(path), '--weights', str(checkpoint), '--out-dir',
                          str(tmp_path / 'out'), *arguments])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err
    return call


def test_it_answers_and_says_where(run, tmp_path):
    code, lines, err = run('--task', 'panoptic', '--words', 'circle,grass,gizmo', '--stuff',
                           'grass', '--no-thinking', '--nms-iou', '0.5', '--score-thr', '0')
    assert code == 0 and not [line for line in err.splitlines() if 'image_demo' in line]
    written = tmp_path / 'out' / 'room_panoptic'
    assert lines[-1] == f'written: {written}.png, {written}.json'
    answer = json.loads((tmp_path / 'out' / 'room_panoptic.json').read_text())
    assert {item['label'] for item in answer['objects']} <= {'circle', 'grass', 'gizmo'}
    assert run('--task', 'panoptic', '--words', 'circle', '--no-thinking')[1][-1] == (
        f'written: {written}_2.png, {written}_2.json')


def test_nothing_found_is_said(run):
    arguments = ('--task', 'detection', '--words', 'circle', '--no-thinking', '--score-thr', '1')
    code, lines, _ = run(*arguments)
    assert code == 0 and lines[0] == 'nothing found'


@pytest.mark.parametrize('arguments, message', [
    (('--task', 'referring_segmentation', '--text', 'left ' * 400), 'exceed max_length'),
    (('--task', 'panoptik', '--words', 'a'), "did you mean 'panoptic'"),
    (('--task', 'panoptic', '--words', 'a', '--stuff', 'b'), 'not among the words'),
    (('--task', 'referring_segmentation', '--text', 'a', '--stuff', 'a'), 'takes no --stuff'),
    (('--task', 'panoptic', '--words', 'a', '--score-thr', 'nan'), 'threshold must be'),
    (('--task', 'panoptic', '--words', 'a', '--nms-iou', '7'), 'nms_iou must be'),
    (('--task', 'caption', '--no-thinking'), 'without thinking'),
    (('--task', 'panoptic', '--words', 'a', '--device', 'toaster'), 'toaster')])
def test_mistakes_that_the_inferencer_finds_are_one_line(run, arguments, message):
    code, lines, err = run(*arguments)
    told = [line for line in err.splitlines() if line.startswith('image_demo: ')]
    assert code == 2 and lines == []
    assert len(told) == 1 and message in told[0] and 'Traceback' not in err


def test_a_folder_that_cannot_be_made_is_one_line(demo, checkpoint, image, tmp_path, capfd):
    path = tmp_path / 'room.png'
    cv2.imwrite(str(path), image)
    assert demo.main([str(path), '--weights', str(checkpoint), '--task', 'instance', '--words',
                      'a', '--out-dir', str(path / 'out')]) == 2
    assert str(path / 'out') in capfd.readouterr().err


@pytest.fixture
def released(image, tmp_path, monkeypatch):
    """The released variant at the tiny size with random weights; arguments of the demo."""
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tmp_path / 'data/synthetic/tokenizer')
    cv2.imwrite('room.png', image)
    config = ROOT / 'configs/mvplm/released/tiny.py'
    torch.save(dict(state_dict=MODELS.build(load_config(config).model).state_dict()), 'w.pth')
    return ['room.png', '--config', str(config), '--weights', 'w.pth']


def test_a_released_config_answers_in_a_fresh_interpreter(released):
    done = subprocess.run(
        [sys.executable, DEMO, *released, '--task', 'panoptic', '--words', 'circle,grass'],
        capture_output=True, text=True, timeout=300, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-500:]
    assert 'written: outputs/room_panoptic.png' in done.stdout


@pytest.mark.parametrize('task, asked', [
    ('semantic', '--words=circle,gizmo'), ('instance', '--words=circle,gizmo'),
    ('detection', '--words=circle,gizmo'), ('referring_segmentation', '--text=the star'),
    ('generalized_referring', '--text=the star')])
def test_a_released_config_answers_every_task(demo, released, task, asked, capfd):
    assert demo.main([*released, '--task', task, asked]) == 0
    assert f'outputs/room_{task}.png' in capfd.readouterr().out
