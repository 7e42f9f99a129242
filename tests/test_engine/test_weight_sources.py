# Copyright (c) mvp_mm authors. All rights reserved.
"""Every start says where all weights come from; nothing begins at random values unseen."""
from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import SwinTransformer
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import nn

from mvp_mm.engine import load_stage_checkpoint
from mvp_mm.engine.weight_sources import (
    find_sources,
    random_parts,
    source_table,
    watch_init_files,
)
from mvp_mm.utils.checkpoint_io import CheckpointError, read_checkpoint
from tests.test_engine.toys import ToyModel


@pytest.fixture
def logged(monkeypatch):
    """Messages of all loggers."""
    lines = []
    handle = logging.Logger.handle
    monkeypatch.setattr(logging.Logger, 'handle', lambda self, record: (
        lines.append(record.getMessage()), handle(self, record)))
    return lines


def save(path, state, **extra):
    torch.save(dict(state_dict=state, **extra), path)
    return str(path)


def test_every_start_logs_one_table_of_sources(toy_config, make_runner, tmp_path, logged):
    state = {k: v for k, v in ToyModel().state_dict().items() if k.startswith('encoder')}
    toy_config.load_from = save(tmp_path / 'one.pth', state)
    make_runner(toy_config).train()
    table, = (line for line in logged if line.startswith('Where the weights come from'))
    rows = [line.split() for line in table.splitlines()[2:]]
    assert rows == [['encoder', '2', '4', 'frozen', str(tmp_path / 'one.pth')],
                    ['head', '2', '3', 'trained', 'random']]


def test_a_folder_that_a_part_has_read_is_its_source():
    model = ToyModel(pretrained='phi')
    sources = find_sources(model, {})
    assert sources['encoder.weight'] == 'phi' and sources['head.weight'] == 'random'
    assert 'phi' in source_table(model, sources)


def test_norms_at_their_neutral_values_are_not_random():
    model = nn.ModuleDict(dict(norm=nn.LayerNorm(2), other=nn.BatchNorm2d(2)))
    model.other.bias.data.fill_(3.0)
    sources = find_sources(model, {})
    assert sources['norm.weight'] == sources['other.weight'] == 'norms at 1 and 0'
    assert sources['other.bias'] == 'random'


@pytest.mark.parametrize('given, allowed, outcome', [
    ('nothing', [], 'refused'), ('nothing', ['head'], 'warned'), ('head', [], 'quiet'),
    ('one tensor', [], 'quiet')])
def test_a_part_that_should_be_pretrained_is_not_trained_from_random_values_unseen(
        toy_config, make_runner, tmp_path, logged, given, allowed, outcome):
    toy_config.custom_hooks[0].update(pretrained_parts=['head'], allow_random_init=allowed)
    start = dict(nothing='encoder', head='head').get(given, 'head.weight')
    state = {k: v for k, v in ToyModel().state_dict().items() if k.startswith(start)}
    toy_config.load_from = save(tmp_path / 'one.pth', state)
    runner = make_runner(toy_config)
    if outcome == 'refused':
        with pytest.raises(CheckpointError, match=(
                r'model\.head starts at random values.*handover\.allow_random_init')):
            runner.train()
        assert runner.iter == 0
        return
    runner.train()
    warnings = [i for i, line in enumerate(logged) if 'TRAINED FROM RANDOM VALUES: head' in line]
    assert len(warnings) == (2 if outcome == 'warned' else 0)
    if outcome == 'warned':
        steps = [i for i, line in enumerate(logged) if 'Iter(train)' in line]
        assert warnings[0] < steps[0] and warnings[1] > steps[-1]
        meta = read_checkpoint(Path(runner.work_dir) / 'iter_4.pth')['meta']
        assert meta['random_init'] == ['head']


def test_dotted_parts_are_looked_at_inside():
    sources = {'a.x.w': 'file', 'a.y.w': 'random', 'a.y.n': 'norms at 1 and 0'}
    assert random_parts(sources, ['a', 'a.x', 'a.y', 'b']) == ['a.y']


def test_a_stage_checkpoint_leaves_out_what_is_random_and_did_not_run(
        toy_config, make_runner, tmp_path):
    toy_config.custom_hooks[0].update(
        trained_only=True, allow_frozen_random_init=['encoder', 'idle'])
    runner = make_runner(toy_config)
    runner.model.idle = nn.BatchNorm1d(3).requires_grad_(False)
    nn.init.normal_(runner.model.idle.weight)
    runner.train()
    written = read_checkpoint(Path(runner.work_dir) / 'iter_4.pth')['state_dict']
    assert sorted(written) == ['encoder.bias', 'encoder.weight', 'head.bias', 'head.weight']
    # A next stage of other sizes there starts from it.
    model = ToyModel()
    model.idle = nn.Linear(7, 7)
    report = load_stage_checkpoint(model, Path(runner.work_dir) / 'iter_4.pth')
    assert report.fresh == ['idle.weight', 'idle.bias']


def swin(file, convert=False):
    model = BaseModule()
    model.backbone = SwinTransformer(
        embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4,
        convert_weights=convert, init_cfg=ConfigDict(type='Pretrained', checkpoint=str(file)))
    return model


def initialise(model):
    watch = watch_init_files(model)
    model.init_weights()
    watch.close()
    return watch


def test_only_tensors_that_were_taken_over_count(tmp_path):
    state = SwinTransformer(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                            window_size=4).state_dict()
    given = {f'backbone.{key}': value for key, value in state.items() if 'stages.0' in key}
    model = swin(save(tmp_path / 'part.pth', given))
    sources = find_sources(model, initialise(model).given)
    files = {name for name, source in sources.items() if source.endswith('part.pth')}
    assert files and all(name.startswith('backbone.stages.0.') for name in files)
    assert sources['backbone.stages.1.blocks.0.attn.w_msa.qkv.weight'] == 'random'
    assert torch.equal(model.state_dict()['backbone.stages.0.blocks.0.ffn.layers.1.weight'],
                       given['backbone.stages.0.blocks.0.ffn.layers.1.weight'])


TIMM = {'patch_embed.proj.weight': torch.ones(8, 3, 4, 4),
        'layers.3.downsample.norm.weight': torch.ones(128)}


@pytest.mark.parametrize('convert', [False, True])
@pytest.mark.parametrize('state, message', [
    (dict(a=torch.zeros(2)), r'file\.pth holds not one weight of model\.backbone'),
    (TIMM, r'file\.pth does not fit model\.backbone.*timm.*convert_weights\.py.*--load-from')])
def test_a_file_that_does_not_fit_the_encoder_is_refused(tmp_path, convert, state, message):
    with pytest.raises(CheckpointError, match=message):
        initialise(swin(save(tmp_path / 'file.pth', state), convert))


def test_names_of_swins_authors_ask_for_their_conversion(tmp_path):
    path = save(tmp_path / 'file.pth', {'patch_embed.proj.weight': torch.ones(8, 3, 4, 4)})
    with pytest.raises(CheckpointError, match=r'set model\.backbone\.convert_weights=True'):
        initialise(swin(path))


def test_a_tensor_of_another_shape_is_named(tmp_path):
    path = save(tmp_path / 'file.pth', {
        'backbone.patch_embed.projection.weight': torch.ones(9, 3, 4, 4)})
    with pytest.raises(CheckpointError, match=(
            r'patch_embed\.projection\.weight: file \(9, 3, 4, 4\), model \(8, 3, 4, 4\)')):
        initialise(swin(path))


@pytest.mark.parametrize('change, message', [
    ('missing', r'1 missing \(head\.bias\)'), ('extra', r'1 unexpected \(segmenter\.weight\)')])
def test_a_test_needs_exactly_the_weights_of_the_model(
        toy_config, make_runner, tmp_path, change, message):
    state = ToyModel().state_dict()
    if change == 'missing':
        del state['head.bias']
    else:
        state['segmenter.weight'] = torch.ones(1)
    toy_config.load_from = save(tmp_path / 'one.pth', state)
    with pytest.raises(CheckpointError, match=rf'one\.pth do not fit the model: {message}'):
        make_runner(toy_config).test()
