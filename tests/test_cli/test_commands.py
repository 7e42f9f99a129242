# Copyright (c) mvp_mm authors. All rights reserved.
"""The command line: help, one-line errors, exit codes."""
from __future__ import annotations

import subprocess
import sys

import click
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mvp_mm.cli.actions.train import use_float16
from mvp_mm.cli.command import FAILED, INTERRUPTED, Command, ManyValues, reported, run
from mvp_mm.cli.main import cli
from mvp_mm.engine.config_error import ConfigError
from tests.helpers import ROOT


def leaves(group: click.Group, path: tuple[str, ...] = ()):
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


LEAVES = list(leaves(cli))
TINY = 'configs/mvplm/tiny/stage2.py'


def test_the_commands_of_the_front_door_are_there():
    assert set(cli.commands) >= {
        'ask', 'data', 'train', 'test', 'check', 'browse', 'convert', 'export'}


@pytest.mark.parametrize('words', LEAVES, ids=' '.join)
def test_every_command_has_help_with_an_example_that_parses(words, capsys):
    assert run(cli, 'mvp-mm', [*words, '--help']) == 0
    text = capsys.readouterr().out
    examples = text.split('Example', 1)[1].replace('\\\n', ' ').splitlines()
    examples = [line.split() for line in examples if line.strip().startswith('mvp-mm')]
    own = [line for line in examples if line[1:1 + len(words)] == list(words)]
    assert own
    known = set(text.split()) | {'--no-thinking'}
    assert not [word for line in own for word in line if word.startswith('--')
                and word not in known]


def test_help_imports_nothing_heavy():
    code = ('import sys\nfrom mvp_mm.cli.main import main\nsys.argv = ["mvp-mm", "train", "--help"]'
            '\ntry:\n    main()\nexcept SystemExit:\n    pass\n'
            'print(len(sys.modules), *sys.modules, file=sys.stderr)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    number, *names = done.stderr.split()
    assert not {'torch', 'numpy', 'mmengine', 'transformers', 'PIL', 'cv2'} & set(names)
    assert int(number) < 300


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, '-m', 'mvp_mm', 'train'], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 2
    assert done.stderr == ("mvp-mm train: error: Missing argument 'CONFIG'. (mvp-mm train --help "
                           'tells more)\n')


@pytest.mark.parametrize('words, message', [
    (['tarin'], "mvp-mm: error: No such command 'tarin'."),
    (['train', 'a.py', '--resmue'], 'mvp-mm train: error: No such option'),
    (['train', 'a.py', '--resume', '--load-from', 'b'], 'exclude each other'),
    (['train', 'a.py', '--cfg-options', 'lr'], "'lr' is not KEY=VALUE"),
    (['train', 'nowhere.py'], 'mvp-mm train: error: config not found: nowhere.py'),
    (['test', 'nowhere.py', 'b.pth'], 'mvp-mm test: error: config not found: nowhere.py'),
    (['browse', 'nowhere.py', '--out', 'x'], 'mvp-mm browse: error: config not found'),
    (['check', 'nowhere'], "mvp-mm check: error: Invalid value for 'SOURCE'"),
    (['check', '.', '--workers', '-1'], '-1 is not in the range x>=0'),
    (['browse', 'a.py', '--out', 'x', '--number', '-2'], '-2 is not in the range x>=1'),
    (['data', 'nowhere', '--out', 'x'], 'mvp-mm data: error: nowhere: no such file or folder'),
    (['convert', 'phi', 'nowhere', '--out', 'x'], 'mvp-mm convert phi: error: nowhere'),
    (['convert', 'weights', 'nowhere.py', 'b', '--out', 'x'], 'config not found: nowhere.py'),
    (['convert', 'weights', TINY, 'tinny', '--out', 'x'], 'mvp-mm convert weights: error: no such '
     'file or folder: tinny, and no model of that name; did you mean tiny?'),
])
def test_wrong_usage_and_bad_input_are_one_line_and_status_2(words, message, capsys, tmp_path,
                                                             monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(cli, 'mvp-mm', words) == 2
    line, = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.fixture
def mistaken(tmp_path, monkeypatch):
    """A folder with the files that people mix up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    for name in ('mine/config.py', 'mine/model.safetensors', 'a.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'labels.json').write_text('{"images": [], "annotations": [], "categories": []}')
    Image.new('RGB', (4, 4)).save('photo.jpg')


@pytest.mark.parametrize('words, message', [
    ('train mine', 'mine is a folder, not a config; did you mean mine/config.py?'),
    ('train tiny/stage2.py', 'config not found: tiny/stage2.py; did you mean '
     'configs/mvplm/tiny/stage2.py?'),
    ('train tiny', 'config not found: tiny; this is a model of the zoo, its config is '
     'configs/mvplm/tiny/pretrained.py'),
    (f'test tiny {TINY}', 'this is a model of the zoo, its config is configs/mvplm/tiny/'),
    ('train photo.jpg', "photo.jpg is no config, which is a .py file, but a file of type '.jpg'"),
    (f'test a.pth {TINY}', 'a.pth is no config, which is a .py file, but weights; the config comes '
     'first'),
    ('train labels.json', 'labels.json holds labels, no config; this makes a config of them: '
     'mvp-mm data labels.json --out DIR'),
    (f'test {TINY} mine', 'CHECKPOINT: mine is a folder, but no published model: it has no '
     'config.json; did you mean mine/model.safetensors?'),
    (f'test {TINY} tinny', 'CHECKPOINT: no such file or folder: tinny, and no model of that name; '
     'did you mean tiny?'),
    (f'test {TINY} gone.pth', 'CHECKPOINT: no such file or folder: gone.pth'),
    (f'train {TINY} --load-from photo.jpg', '--load-from: photo.jpg is a JPEG image, not weights'),
    (f'train {TINY} --load-from tinny', '--load-from: no such file or folder: tinny, and no model '
     'of that name; did you mean tiny?'),
    (f'train {TINY} --resume tiny', '--resume: tiny holds weights alone and no state of a run; '
     '--load-from tiny starts from them'),
    ('serve tinny', 'no such file or folder: tinny, and no model of that name; did you mean tiny?'),
    (f'train {TINY} --resume gone.pth', '--resume: no such file or folder: gone.pth'),
    (f'train {TINY}', 'no such folder: data/synthetic, in which'),
    (f'train {TINY}', '; bash tools/quickstart.sh draws it'),
    ('data labels.json --out mine', 'mine exists and is not an empty folder'),
    ('data labels.json --out new --val-share 3', '3.0 is not in the range 0<=x<1'),
    ('ask photo.jpg --words a', 'name a model with --weights'),
    ('ask photo.jpg --words a --weights tinny', 'did you mean tiny? known are'),
    ('ask photo.jpg --words a --weights mine', 'mine is a folder, but no published model: it has '
     'no config.json; did you mean mine/model.safetensors?'),
    ('export mine --out new', 'mine is a folder, but no published model'),
    ('export tinny --out new', 'no such file or folder: tinny, and no model of that name'),
    ('ask photo.jpg --words a --weights tiny --out photo.jpg', '--out photo.jpg is a file, not a '
     'folder'),
    ('ask https://example.org/a.jpg --words a --weights tiny', 'download it first')])
def test_a_likely_mistake_is_told_in_the_users_words(mistaken, words, message, capsys):
    assert run(cli, 'mvp-mm', words.split()) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'mvp-mm {words.split()[0]}: error: ') and message in line


def test_a_group_without_a_command_shows_its_help(capsys):
    assert run(cli, 'mvp-mm', ['convert']) == 2
    assert 'phi ' in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys, tmp_path):
    assert run(cli, 'mvp-mm', ['train', str(tmp_path / 'no.py'), '--debug']) == 2
    told = capsys.readouterr().err
    assert 'Traceback' in told and told.splitlines()[-1].startswith('mvp-mm train: error: config')


def command(body) -> Command:
    return Command('toy', callback=body)


def test_an_interrupt_ends_with_130(capsys):
    def stop():
        raise KeyboardInterrupt
    assert run(command(stop), 'toy', []) == INTERRUPTED == 130
    assert capsys.readouterr().err.splitlines()[-1] == 'toy: interrupted'


@pytest.mark.parametrize('kind', [ValueError, EOFError])
def test_an_unexpected_error_keeps_its_traceback(kind):
    def fail():
        raise kind('ours')
    with pytest.raises(kind, match='ours'):
        run(command(fail), 'toy', [])


def test_a_failure_has_the_status_that_it_was_given(capsys):
    def fail():
        with reported(OSError, status=FAILED):
            raise OSError('the disk is full')
    assert run(command(fail), 'toy', []) == 1
    assert capsys.readouterr().err == 'toy: error: the disk is full\n'


def test_a_status_of_the_engine_passes():
    def preempted():
        sys.exit(75)
    with pytest.raises(SystemExit, match='75'):
        run(command(preempted), 'toy', [])


@pytest.mark.parametrize('arguments, pairs, place', [
    (['c.py', '--set', 'a=1', 'b=[1,2]', '--flag'], ('a=1', 'b=[1,2]'), 'c.py'),
    (['--set', 'a=1', 'c.py'], ('a=1', ), 'c.py'),
    (['c.py', '--set', 'a=1', '--set', 'b=2'], ('a=1', 'b=2'), 'c.py'),
    (['--set=a=1', 'c.py'], ('a=1', ), 'c.py'),
    (['c.py'], (), 'c.py')])
def test_an_option_takes_all_pairs_that_follow(arguments, pairs, place):
    found = {}
    toy = Command('toy', callback=lambda **given: found.update(given), params=[
        click.Argument(['place']), ManyValues(['--set']), click.Option(['--flag'], is_flag=True)])
    assert run(toy, 'toy', arguments) == 0
    assert (found['set'], found['place']) == (pairs, place)


def test_an_option_of_pairs_needs_one(capsys):
    toy = Command('toy', callback=lambda **given: None, params=[ManyValues(['--set'])])
    assert run(toy, 'toy', ['--set']) == 2
    assert "'--set' requires an argument" in capsys.readouterr().err


def test_float16_without_a_gpu_is_refused_with_the_way_out(monkeypatch):
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ConfigError, match=r"--amp: .* needs a GPU; .*dtype='bfloat16'"):
        use_float16(cfg)
    assert cfg.optim_wrapper == dict(type='OptimWrapper')
