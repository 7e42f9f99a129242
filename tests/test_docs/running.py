# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs a how-to page: writes the files that it shows and types the commands that it tells.

A page is followed in a folder with the repository's ``configs``, ``tools``, ``demo`` and
``projects``, a small synthetic world in ``data/synthetic`` and labels of one's own in
``data/own``, and the weights that come along. ``CHECKPOINT`` stands for random weights of the tiny
model that starts from nothing, ``IMAGE`` for an image.
"""
from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import mvp_mm.registry
from mvp_mm.cli.command import run
from mvp_mm.cli.main import cli
from mvp_mm.registry import MODELS
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.synthetic import WorldParameters, make_world
from tests.helpers import ROOT
from tests.test_docs.pages import blocks, commands

_FILE = re.compile(r'^# file: (\S+)\n')
# One step of one image is enough to see that a page is right.
_SHORT = ('train_cfg.max_iters=1', 'default_hooks.logger.interval=1',
          'train_dataloader.batch_size=1', 'train_dataloader.num_workers=0')
TINY = 'configs/mvplm/tiny/stage2.py'


def make_place(folder: Path) -> Path:
    """Make the folder that pages are followed in."""
    for name in ('configs', 'tools', 'demo', 'projects'):
        (folder / name).symlink_to(ROOT / name)
    world = folder / 'data/synthetic'
    make_world(world, WorldParameters(seed=0, train=6, val=2), workers=1)
    (folder / 'mvp_mm').mkdir()
    (folder / 'mvp_mm/weights').symlink_to(ROOT / 'mvp_mm/weights')
    # As the quickstart does: the weights that come along know this one alone.
    shutil.copytree(ROOT / 'mvp_mm/weights/tiny/tokenizer', world / 'tokenizer')
    _write_own_labels(world, folder / 'data/own')
    shutil.copy(next((world / 'images/val').iterdir()), folder / 'IMAGE')
    return folder


def _write_own_labels(world: Path, own: Path) -> None:
    """COCO JSON with masks, as somebody who labels photos has it."""
    shutil.copytree(world / 'images/train', own / 'images')
    truth = json.loads((world / 'annotations/instances_train.json').read_text())
    for name, images in (('train', truth['images'][:4]), ('val', truth['images'][4:])):
        ids = {image['id'] for image in images}
        (own / f'{name}.json').write_text(json.dumps(dict(
            truth, images=[dict(image, file_name=Path(image['file_name']).name)
                           for image in images],
            annotations=[a for a in truth['annotations'] if a['image_id'] in ids])))


def save_checkpoint(place: Path, config: Config) -> None:
    """Save seeded weights of the tiny model as ``CHECKPOINT``."""
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=config.pretty_text)),
               place / 'CHECKPOINT')


def files_of(text: str) -> dict[str, str]:
    """The files that a page shows, by name.

    Raises:
        ValueError: If a Python block does not say which file it is: it would not be run.
    """
    found = {}
    for block in blocks(text, 'python'):
        named = _FILE.match(block)
        if not named:
            raise ValueError(f'a block does not begin with "# file: …":\n{block[:200]}')
        found[named[1]] = block
    for block in blocks(text, 'text'):
        named = _FILE.match(block)
        if named:    # a CSV, which has no comments
            found[named[1]] = block[named.end():]
    return found


class Follower:
    """Follows one page.

    Attributes:
        runners: The runner of each training or test, by the name of its config.
        metrics: The metrics of each test, likewise.
    """

    def __init__(self, place: Path, patch: pytest.MonkeyPatch, capsys) -> None:
        self.place, self.patch, self.capsys = place, patch, capsys
        self.runners: dict[str, Runner] = {}
        self.metrics: dict[str, dict] = {}
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        # mmengine lays out a config's text four times, which takes longer than all the rest.
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        for name in ('train', 'test'):
            self._keep_runner(name)

    def _keep_runner(self, name: str) -> None:
        method = getattr(Runner, name)

        def kept(runner, *args, **kwargs):
            config = Path(runner.cfg.filename).name
            self.runners[config] = runner
            result = method(runner, *args, **kwargs)
            if name == 'test':
                self.metrics[config] = result
            return result

        self.patch.setattr(Runner, name, kept)

    def follow(self, page: str) -> None:
        """Write a page's files, run its commands on them, train configs without a command."""
        text = (ROOT / 'docs/how_to' / page).read_text(encoding='utf-8')
        files = files_of(text)
        for name, content in files.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.place / name).write_text(content, encoding='utf-8')
        for name in files:
            if name.startswith('prepare'):
                self.type([name])
        ran = set()
        for script, arguments in commands(text):
            if any(argument in files or self._is_data(argument) for argument in arguments):
                self.type([script, *arguments])
                ran.update(arguments)
        for name, content in files.items():
            if '_base_ =' in content and name not in ran:
                self.type(['tools/train.py', name])

    def _is_data(self, argument: str) -> bool:
        """Whether a file of data, or one that a command before has written."""
        return argument.startswith('data/own/') or (
            argument.startswith('data/') and (self.place / argument).is_file())

    def type(self, words: list[str]) -> str:
        """Run a command in this process, a training for one step; what it prints."""
        script, *arguments = words
        environment: dict[str, str] = {}
        if script == 'mvp-mm':
            return self._type_command(arguments)
        if script == 'tools/dist_train.sh':
            config, _, *rest = arguments
            script, arguments = 'tools/train.py', [config, '--launcher', 'pytorch', *rest]
            environment = dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0',
                               MASTER_ADDR='127.0.0.1', MASTER_PORT='0')  # any free port
        if script == 'tools/train.py':
            _shorten(arguments)
        forget_runs()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [script, *arguments])
            for key, value in environment.items():
                patch.setenv(key, value)
            try:
                runpy.run_path(script, run_name='__main__')
            except SystemExit as end:
                if end.code:
                    raise AssertionError(f'{script} {arguments}: {end.code}') from None
        return self.capsys.readouterr().out

    def _type_command(self, arguments: list[str]) -> str:
        if arguments[0] == 'train':
            _shorten(arguments)
        forget_runs()
        status = run(cli, 'mvp-mm', arguments)
        printed = self.capsys.readouterr()
        assert status == 0, f'mvp-mm {arguments}: {printed.err}'
        return printed.out


def _shorten(arguments: list[str]) -> None:
    """Have a training take one step."""
    if '--cfg-options' not in arguments:
        arguments.append('--cfg-options')
    at = arguments.index('--cfg-options') + 1
    while at < len(arguments) and '=' in arguments[at]:
        at += 1    # of two values of a setting the last one counts
    arguments[at:at] = _SHORT


def forget(place: Path) -> None:
    """Forget the modules that pages brought, what these registered, and what mmengine keeps."""
    brought = {name for name, module in sys.modules.items()
               if str(getattr(module, '__file__', None)).startswith(f'{place}{os.sep}')}
    for registry in vars(mvp_mm.registry).values():
        for name, kind in list(getattr(registry, '_module_dict', {}).items()):
            if kind.__module__ in brought:
                registry._module_dict.pop(name)
    for name in brought:
        sys.modules.pop(name)
    forget_runs()
    DefaultScope._instance_dict.clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
