# Copyright (c) mvp_mm authors. All rights reserved.
"""Every command takes and refuses the same files, names the cause, and runs nothing."""
from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner import Runner
from torch import nn

from mvp_mm.apis.inferencer import PerceptionInferencer
from mvp_mm.apis.published import save_published
from mvp_mm.converters import read_weights
from mvp_mm.engine import load_stage_checkpoint
from mvp_mm.engine.weight_sources import watch_init_files
from mvp_mm.models.encoders import TimmBackbone
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils import named_weights
from mvp_mm.utils.checkpoint_io import read_checkpoint
from tests.test_checkpoints.files import BARE, DAMAGED, SOUND, hostile, saved, sound
from tests.test_engine import toys
from tests.test_engine.toys import ToyModel

# These read no more than names and values: they have nothing to say about this model.
READERS = ('reader', 'converters', 'timm')
ABOUT_A_MODEL = ('wrong shape', 'another model')


@pytest.fixture(scope='module')
def doors(tmp_path_factory):
    """Ways by which a file gets into a model, by name; each takes a path."""
    folder = tmp_path_factory.mktemp('doors')
    forget_runs()

    def runner(mode: str) -> Runner:
        built = Runner.from_cfg(Config(dict(
            default_scope='mvp_mm', model=dict(type='ToyModel'), work_dir=str(folder / mode),
            train_dataloader=toys.toy_loader(type='InfiniteSampler'),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(
                type='SGD', lr=0.01, momentum=0.9)),
            custom_hooks=[dict(type='StageCheckpointHook')], resume=mode == 'resume',
            experiment_name=uuid.uuid4().hex)))
        if mode != 'test':
            built._train_loop = built.build_train_loop(built._train_loop)
            built.optim_wrapper = built.build_optim_wrapper(built.optim_wrapper)
        return built

    def through(built: Runner, load: str):
        def door(path: Path) -> None:
            built.cfg.load_from = str(path)
            getattr(built, load)(str(path))
        return door

    def init_cfg(path: Path) -> None:
        model = BaseModule()
        model.part = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
        model.part.encoder, model.part.head = nn.Linear(1, 2), nn.Linear(2, 1)
        watch_init_files(model)
        model.init_weights()

    def frozen_from(path: Path) -> None:
        trained = folder / f'{uuid.uuid4().hex}.pth'
        trained.write_bytes(saved(dict(
            state_dict=dict(x=torch.ones(1)), meta=dict(frozen_from=str(path)))))
        load_stage_checkpoint(ToyModel(), trained)

    config = Config(dict(model=dict(type='ToyModel'), inferencer=dict(pipeline=[], tasks={})))
    yield {
        'reader': read_checkpoint,
        'converters': read_weights,
        'load_from': through(runner('load_from'), 'load_checkpoint'),
        'resume': through(runner('resume'), 'resume'),
        'test': through(runner('test'), 'load_checkpoint'),
        'inferencer': lambda path: PerceptionInferencer(config, path, 'cpu'),
        'stored config': lambda path: PerceptionInferencer(None, path, 'cpu'),
        'frozen_from': frozen_from,
        'init_cfg': init_cfg,
        'timm': lambda path: TimmBackbone('resnet18', str(path)),
    }
    forget_runs()


DOORS = ('reader', 'converters', 'load_from', 'resume', 'test', 'inferencer', 'stored config',
         'frozen_from', 'init_cfg', 'timm')


@pytest.mark.parametrize('door', DOORS)
def test_damaged_files_are_refused_by_file_and_cause(doors, tmp_path, door):
    wrong = []
    for name, (make, cause) in DAMAGED.items():
        if name in ABOUT_A_MODEL and door in READERS:
            continue
        path = tmp_path / 'file.pth'
        path.write_bytes(make())
        try:
            doors[door](path)
            wrong.append(f'{name}: taken')
        except Exception as error:
            text = str(error)
            if name in ABOUT_A_MODEL:
                said = 'not fit' in text or 'no weight' in text or 'not one weight' in text
            else:
                said = cause in text and 'file.pth' in text
            if not (isinstance(error, ValueError) and said) or 'weights_only' in text \
                    or 'trust' in text:
                wrong.append(f'{name}: {type(error).__name__}: {text}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('door', [d for d in DOORS if d != 'timm'])
def test_sound_files_are_taken(doors, tmp_path, door):
    for name, make in {**SOUND, **({} if door == 'resume' else BARE)}.items():
        path = tmp_path / 'file.pth'
        path.write_bytes(make())
        if door == 'stored config' and name in BARE and name != 'iteration is text':
            with pytest.raises(ValueError, match='stores no config'):
                doors[door](path)
            continue
        try:
            doors[door](path)
        except Exception as error:
            raise AssertionError(f'{name}: {error}') from error


@pytest.fixture
def toy_of_the_zoo(tmp_path, monkeypatch):
    """A published folder with a name in the model zoo; the working folder is another."""
    folder = tmp_path / 'published'
    save_published(folder, ToyModel(), Config(dict(
        model=dict(type='ToyModel'), inferencer=dict(pipeline=[], tasks={}))))
    monkeypatch.setattr(named_weights, 'zoo_models', lambda index: {
        'toy': dict(Name='toy', Weights=str(folder))})
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    return folder


# A checkpoint names files by their paths, and one part of a model has no name in the zoo.
NAMED = [door for door in DOORS if door not in ('frozen_from', 'init_cfg', 'timm', 'resume')]


@pytest.mark.parametrize('door', NAMED)
def test_published_folders_and_names_of_the_zoo_are_taken(doors, toy_of_the_zoo, door):
    for name in (toy_of_the_zoo, 'toy', 'TOY'):
        doors[door](name)


@pytest.mark.parametrize('door', NAMED)
def test_a_published_folder_that_is_damaged_is_refused(doors, toy_of_the_zoo, door):
    weights = toy_of_the_zoo / 'model.safetensors'
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    for name in (toy_of_the_zoo, 'toy', weights):
        with pytest.raises(ValueError, match='is damaged or another file'):
            doors[door](name)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r'is not whole: it has no model\.safetensors'):
        doors[door]('toy')


@pytest.mark.parametrize('door', NAMED)
def test_an_unknown_name_is_told_from_the_known_ones(doors, toy_of_the_zoo, door):
    with pytest.raises(FileNotFoundError, match=r'no such file or folder: toyy, and no model of '
                       r'that name; did you mean toy\? known are toy'):
        doors[door]('toyy')


def test_weights_of_the_zoo_cannot_be_resumed(doors, toy_of_the_zoo):
    with pytest.raises(ValueError, match='toy: it holds weights, but not the state of a '):
        doors['resume']('toy')


@pytest.mark.parametrize('name', BARE)
def test_weights_alone_cannot_be_resumed(doors, tmp_path, name):
    path = tmp_path / 'file.pth'
    path.write_bytes(BARE[name]())
    with pytest.raises(ValueError, match=r'file\.pth: it holds weights, but not the state of a '):
        doors['resume'](path)


@pytest.mark.parametrize('door', DOORS)
def test_nothing_in_a_file_is_run(doors, tmp_path, door):
    mark = tmp_path / 'executed'
    files = hostile(mark)
    assert len(files) >= 25
    for name, content in files.items():
        path = tmp_path / 'file.pth'
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'file\.pth') as refused:
            doors[door](path)
        assert not mark.exists(), name
        assert 'trust' not in str(refused.value)


@pytest.mark.parametrize('door', DOORS)
def test_a_config_that_mmengine_would_evaluate_is_dropped(doors, tmp_path, door):
    mark, path = tmp_path / 'executed', tmp_path / 'file.pth'
    meta = dict(sound()['meta'], config=f"import os\nos.system('touch \"{mark}\"')\n")
    path.write_bytes(saved(sound(meta=meta)))
    if door == 'timm':
        with pytest.raises(ValueError, match='not one weight'):
            doors[door](path)
    else:
        doors[door](path)
    assert not mark.exists()
    assert 'config' not in read_checkpoint(path)['meta']


@pytest.mark.parametrize('door', DOORS)
def test_folders_and_dangling_links_are_named(doors, tmp_path, door):
    folder, link = tmp_path / 'folder', tmp_path / 'link.pth'
    folder.mkdir()
    link.symlink_to(tmp_path / 'gone.pth')
    with pytest.raises((ValueError, FileNotFoundError), match='folder'):
        doors[door](folder)
    with pytest.raises(FileNotFoundError, match=r'link\.pth'):
        doors[door](link)


@pytest.mark.parametrize('address', [
    'https://host/w.pth', 'torchvision://resnet50', 'open-mmlab://x', 's3://bucket/x.pth'])
def test_weights_are_never_fetched(address):
    from mmengine.runner import CheckpointLoader
    with pytest.raises(ValueError, match='read from local files alone'):
        CheckpointLoader.load_checkpoint(address)


def test_a_file_of_torch_read_by_mmengine_reads_as_it_was_written(tmp_path):
    path = tmp_path / 'file.pth'
    path.write_bytes(saved(sound()))
    read = read_checkpoint(path)
    assert all(torch.equal(value, read['state_dict'][key])
               for key, value in sound()['state_dict'].items())
    assert read['message_hub']['log_scalars']['loss'].mean() == 1.0
    assert read['meta']['note'] == 0.5
