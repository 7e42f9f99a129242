# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm ask`` and ``mvp-mm export``, on a model of the same shape that computes nothing."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvp_mm
from mvp_mm.apis.answers import AnswerFiles
from mvp_mm.cli.command import run
from mvp_mm.cli.main import cli


class FakeAnswer:
    def __init__(self, task, label, segments=None):
        self.task, self.segments, self.caption = task, segments, None
        self.reason = 'words mean detection'
        self.labels = [label]
        self.scores = np.full(len(self.labels), 0.5)
        self.boxes = np.tile([1., 2., 3., 4.], (len(self.labels), 1))
        self.found = label.rpartition('-')[2] != 'the unicorn'
        self.found_thr, self.presence, self.presence_thr = None, 0.61, 0.7

    def __len__(self):
        return len(self.labels)

    def to_files(self):
        return AnswerFiles(self.labels[0], b'a picture', json.dumps(self.labels))


class FakeModel:
    calls: list = []
    options: list = []

    def __init__(self, source, device=None, config=None, dtype=None, acceleration=None):
        self.calls.append((source, device, config))
        self.options.append((dtype, acceleration))

    def stream(self, image, words=None, text=None, stuff=None, task=None, thinking=None,
                 threshold=None, batch_size=None, workers=None, progress=True, finish=None):
        assert not progress    # every answer is printed
        self.calls.append(dict(image=image, words=words, text=text, stuff=stuff, task=task,
                               thinking=thinking, threshold=threshold, batch_size=batch_size,
                               workers=workers))
        texts = text if isinstance(text, list) else [text]
        segments = None
        if task == 'panoptic':
            segments = np.array([[1, 1], [1, 2]]), [dict(id=1, label='snow', isthing=False)]
        return (finish(FakeAnswer(task or 'detection', f'{Path(name).stem}-{sentence}', segments))
                for name in image for sentence in texts)

    def save_pretrained(self, folder):
        Path(folder).mkdir()

    def export_onnx(self, folder):
        assert Path(folder).parent.is_dir()    # the published folder comes first
        self.calls.append(folder)
        return dict(boxes=2e-7)


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Ask in a folder with three pictures; status, lines printed, text on stderr, calls."""
    monkeypatch.setattr(mvp_mm, 'MVP', FakeModel, raising=False)
    monkeypatch.setattr(FakeModel, 'calls', [])
    monkeypatch.setattr(FakeModel, 'options', [])
    monkeypatch.chdir(tmp_path)
    Path('photos').mkdir()
    for name in ('photos/a.jpg', 'photos/b.png', 'c.jpg'):
        Image.new('RGB', (4, 4)).save(name)
    for name in ('photos/notes.txt', 'w', 'a.pth'):
        Path(name).touch()

    def call(*words):
        status = run(cli, 'mvp-mm', ['ask', *words, '--weights', 'w'])
        told = capsys.readouterr()
        return status, told.out.splitlines(), told.err
    return call


def test_a_question_reaches_the_model_and_its_answer_the_screen(ask):
    status, lines, _ = ask('c.jpg', '--words', 'dog, red ball', '--no-thinking', '--threshold',
                           '0.2', '--device', 'cpu')
    assert status == 0
    assert FakeModel.calls == [('w', 'cpu', None), dict(
        image=[Path('c.jpg')], words=['dog', 'red ball'], text=None, stuff=None, task=None,
        thinking=False, threshold=0.2, batch_size=None, workers=None)]
    assert lines == ['c.jpg: detection (words mean detection)', '  c-None  0.50  [1, 2, 3, 4]',
                     '  written: outputs/c-None.png, outputs/c-None.json']
    assert json.loads(Path('outputs/c-None.json').read_text()) == ['c-None']
    assert Path('outputs/c-None.png').read_bytes() == b'a picture'


def test_precision_and_acceleration_reach_the_model(ask):
    assert ask('c.jpg', '--words', 'dog', '--dtype', 'bfloat16', '--accelerate')[0] == 0
    assert ask('c.jpg', '--words', 'dog')[0] == 0
    assert FakeModel.options == [('bfloat16', True), (None, False)]


def test_folders_patterns_and_files_are_asked_together_each_once(ask):
    status, lines, _ = ask('photos', 'photos/*.jpg', 'c.jpg', '--words', 'dog')
    assert status == 0
    assert FakeModel.calls[1]['image'] == [Path('photos/a.jpg'), Path('photos/b.png'),
                                           Path('c.jpg')]
    assert [line.split(' (')[0] for line in lines if not line.startswith(' ')] == [
        'photos/a.jpg: detection', 'photos/b.png: detection', 'c.jpg: detection']


def test_several_sentences_are_answered_image_by_image(ask):
    _, lines, _ = ask('photos', '--text', 'left', '--text', 'right')
    assert [line.split(' (')[0] for line in lines if not line.startswith(' ')] == [
        'photos/a.jpg "left": detection', 'photos/a.jpg "right": detection',
        'photos/b.png "left": detection', 'photos/b.png "right": detection']
    assert len(list(Path('outputs').glob('*.json'))) == 4


def test_a_guess_is_called_one(ask):
    _, lines, _ = ask('c.jpg', '--text', 'the unicorn', '--workers', '2')
    assert lines[1:-1] == ['  c-the unicorn  0.50  [1, 2, 3, 4]',
                           '  not found, this is the best guess: that the sentence means anything '
                           'here has a probability of 0.61, not above 0.7']
    assert FakeModel.calls[1]['workers'] == 2


def test_a_killed_worker_is_one_line_and_a_failed_run(ask, monkeypatch):
    def lost(*_, **__):
        raise ChildProcessError('Worker process 7 was killed by SIGKILL at c.jpg')

    monkeypatch.setattr(FakeModel, 'stream', lost)
    status, _, err = ask('c.jpg', '--words', 'dog')
    assert status == 1 and 'SIGKILL at c.jpg' in err and err.count('\n') == 1


def test_segments_are_told_with_their_share_of_the_image(ask):
    _, lines, _ = ask('c.jpg', '--words', 'snow', '--stuff', 'snow', '--task', 'panoptic')
    assert lines[1:-1] == ['  snow  75.0 % of the image']


@pytest.mark.parametrize('words, message', [
    (['c.jpg'], 'ask with --words or --text'),
    (['c.jpg', '--words', 'a', '--text', 'b'], 'exclude each other'),
    (['c.jpg', '--words', 'a,,b'], 'has an empty phrase'),
    (['c.jpg', '--words', 'a,a'], 'names a more than once'),
    (['c.jpg', '--text', 'a', '--stuff', 'a'], '--stuff goes with --words'),
    (['c.jpg', '--text', ' '], '--text is empty'),
    (['d.jpg', '--words', 'a'], 'd.jpg: no image'),
    (['*.gif', '--words', 'a'], '*.gif: no image')])
def test_wrong_questions_are_one_line(ask, words, message):
    status, _, err = ask(*words)
    assert status == 2 and message in err and err.count('\n') == 1
    assert FakeModel.calls == []


def test_a_checkpoint_is_exported(ask, capsys):
    assert run(cli, 'mvp-mm', ['export', 'a.pth', '--out', 'folder', '--config', 'c.py']) == 0
    assert Path('folder').is_dir() and FakeModel.calls == [('a.pth', 'cpu', 'c.py')]
    assert run(cli, 'mvp-mm', ['export', 'none', '--out', 'other']) == 2
    assert capsys.readouterr().err.startswith(
        'mvp-mm export: error: no such file or folder: none, and no model of that name')


def test_graphs_are_exported_into_the_published_folder(ask, capsys):
    assert run(cli, 'mvp-mm', ['export', 'a.pth', '--out', 'folder', '--onnx']) == 0
    assert FakeModel.calls[-1] == Path('folder/onnx')
    assert capsys.readouterr().out.startswith('boxes: differs from the model by at most 2.0e-07\n')
