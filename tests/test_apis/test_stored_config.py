# Copyright (c) mvp_mm authors. All rights reserved.
"""A config that comes with weights is data: nothing that it names is imported, built or opened."""
from __future__ import annotations

import copy
import sys

import pytest
import torch
from mmengine.config import Config

from mvp_mm.apis import PerceptionInferencer
from mvp_mm.apis.stored_config import config_of
from mvp_mm.utils.checkpoint_io import read_checkpoint
from tests.helpers import save_tokenizer, tiny_model_config

TASKS = dict(panoptic=dict(type='PanopticTask'))


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    """The settings of a model whose tokenizer lies beside the weights."""
    folder = tmp_path_factory.mktemp('run')
    save_tokenizer(folder / 'tokenizer')
    model = tiny_model_config(str(folder / 'tokenizer'))
    model['tokenizer']['path'] = 'tokenizer'
    pipeline = [
        dict(type='TokenizeRequests', tokenizer=copy.deepcopy(model['tokenizer']),
             response_room=6),
        dict(type='mmdet.Resize', scale=(128, 128), keep_ratio=True),
        dict(type='PadToCanvas', size=(128, 128)), dict(type='PackPerceptionInputs')]
    return folder, dict(model=model, inferencer=dict(pipeline=pipeline, tasks=TASKS))


def write(folder, settings):
    path = folder / 'weights.pth'
    text = settings if isinstance(settings, str) else Config(settings).pretty_text
    torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta=dict(cfg=text)), path)
    return path


def read(path):
    return config_of(read_checkpoint(path), path)


def test_a_sound_config_is_read_and_its_files_are_found(settings):
    folder, content = settings
    config = read(write(folder, dict(
        content, default_scope='mvp_mm', custom_imports=dict(imports=['mvp_mm']),
        train_dataloader=dict(batch_size=2))))
    assert set(config) == {'default_scope', 'model', 'inferencer'}
    tokenizer = str(folder / 'tokenizer')
    assert config.model.tokenizer.path == tokenizer
    assert config.inferencer.pipeline[0].tokenizer.path == tokenizer
    expected = copy.deepcopy(content['model'])
    expected['tokenizer']['path'] = tokenizer
    assert Config(dict(model=expected)).model == config.model


def changed(settings, place, value):
    """Settings with one value put at a dotted place."""
    result = copy.deepcopy(settings)
    *parents, last = place.split('.')
    node = result
    for key in parents:
        node = node[int(key)] if key.isdigit() else node.setdefault(key, {})
    node[int(last) if last.isdigit() else last] = value
    return result


RUN = dict(type='os.system', command='touch MARK')
HOSTILE = {
    'model': ('model', RUN),
    'part': ('model.pixel_decoder', RUN),
    'backbone': ('model.encoder.backbone.type', 'os.system'),
    'norm of a part': ('model.encoder.backbone.norm_cfg', RUN),
    'initialiser': ('model.encoder.backbone.init_cfg', [dict(RUN)]),
    'preprocessor': ('model.data_preprocessor', RUN),
    'tokenizer': ('model.tokenizer', RUN),
    'tokenizer of the pipeline': ('inferencer.pipeline.0.tokenizer', RUN),
    'step': ('inferencer.pipeline.1', RUN),
    'steps below a step': ('inferencer.pipeline.1', dict(
        type='mmdet.RandomApply', transforms=[RUN])),
    'type by another key': ('inferencer.pipeline.1', dict(
        type='mmdet.RandomChoiceResize', scales=[(8, 8)], resize_type='os.system')),
    'task': ('inferencer.tasks.evil', RUN),
    'task of a task': ('inferencer.tasks.panoptic.decoder', RUN),
    'dotted name of ours': ('model.connector.type', 'mvp_mm.models.connectors.MLPConnector'),
    'module without a dot': ('model.connector.type', 'evil_module'),
    'type that is no text': ('model.connector.type', ['os.system']),
    'scope of another package': ('model.connector.type', 'subprocess.Popen'),
    'imports': ('custom_imports', dict(imports=['evil_module'])),
    'imports below': ('model.custom_imports', dict(imports=['evil_module'])),
    'base': ('_base_', ['evil.py']),
    'base below': ('model._base_', 'evil.py'),
    'scope': ('default_scope', 'evil_module'),
    'scope below': ('model.connector._scope_', 'evil_module'),
    'remote code': ('model.llm.trust_remote_code', True),
    'remote code of sizes': ('model.llm.config.auto_map', dict(AutoConfig='evil.Config')),
    'kernel from a hub': ('model.llm.attn_implementation', 'org/kernel'),
    'timm from a hub': ('model.encoder.backbone', dict(
        type='TimmBackbone', model_name='hf-hub:org/model')),
    'weights elsewhere': ('model.encoder.backbone.init_cfg', dict(
        type='Pretrained', checkpoint='/etc/passwd')),
    'weights above': ('model.encoder.backbone.init_cfg', dict(
        type='Pretrained', checkpoint='../weights.pth')),
    'weights by address': ('model.encoder.backbone.init_cfg', dict(
        type='Pretrained', checkpoint='https://host/w.pth')),
    'LLM elsewhere': ('model.llm.pretrained', '/'),
    'LLM from home': ('model.llm.pretrained', '~/phi'),
    'tokenizer elsewhere': ('model.tokenizer.path', '../tokenizer'),
    'tokenizer by a link': ('model.tokenizer.path', 'link'),
    'config of a teacher': ('model.encoder.backbone.teacher', 'evil.py'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_anything_else_is_refused_by_its_name_and_nothing_runs(
        settings, tmp_path, monkeypatch, name):
    folder, content = settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mark = tmp_path / 'executed'
    for file in ('evil_module.py', 'evil.py'):
        (tmp_path / file).write_text(f"open({str(mark)!r}, 'w')\n")
    (folder / 'link').unlink(missing_ok=True)     # another test's, whose folder is gone
    (folder / 'link').symlink_to(tmp_path, target_is_directory=True)
    place, value = HOSTILE[name]
    changes = changed(content, place, value)
    text = Config(changes).pretty_text.replace('MARK', str(mark))
    path = write(folder, text)
    start = place.split('.')[0]
    with pytest.raises(ValueError, match=rf'The config in .*weights\.pth is refused: {start}'):
        PerceptionInferencer(None, path, 'cpu')
    assert not mark.exists() and 'evil_module' not in sys.modules


@pytest.mark.parametrize('text', [
    'import os', "model = __import__('os')", 'model = open("MARK", "w")',
    "model = dict(**dict(a=1))", 'model = [x for x in ()]', 'model = f"{1}"', 'model = a.b',
    'model: int = 1', 'model.x = 1', 'def f(): pass', 'model = lambda: 1', 'model = dict(',
    'model = (' * 300 + ')' * 300, 'model = 1\0'])
def test_more_than_literals_is_refused(tmp_path, text):
    mark = tmp_path / 'executed'
    path = write(tmp_path, text.replace('MARK', str(mark)))
    with pytest.raises(ValueError, match=r'The config in .*weights\.pth (is more than|is refused)'):
        read(path)
    assert not mark.exists()


def test_a_config_whose_files_are_not_beside_it_names_the_remedy(settings, tmp_path):
    _, content = settings
    with pytest.raises(ValueError, match=(
            r"model.tokenizer.path: 'tokenizer' is not beside the weights.*--config")):
        read(write(tmp_path, content))
