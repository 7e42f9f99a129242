# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from mvp_mm.engine import ConfigError, check_config, load_stage_checkpoint
from mvp_mm.utils.checkpoint_io import CheckpointError, read_checkpoint
from tests.test_engine.toys import ToyModel


def save(path, state, **extra):
    torch.save(dict(state_dict=state, **extra), path)
    return str(path)


@pytest.fixture
def stage_one(tmp_path):
    """A checkpoint with the encoder, a wrapped key and a part the next stage does not have."""
    state = ToyModel().state_dict()
    state = {f'module.{key}': value for key, value in state.items() if key.startswith('encoder')}
    return save(tmp_path / 'one.pth', {**state, 'old.weight': torch.ones(1)})


def test_report_tells_loaded_fresh_and_unused(stage_one):
    model = ToyModel()
    head = model.head.weight.clone()
    report = load_stage_checkpoint(model, stage_one)
    assert report.loaded == ['encoder.weight', 'encoder.bias']
    assert report.fresh == ['head.weight', 'head.bias']
    assert report.unused == ['old.weight']
    assert 'fresh: head (2)' in str(report)
    given = torch.load(stage_one, weights_only=True)['state_dict']
    assert torch.equal(model.encoder.weight, given['module.encoder.weight'])
    assert torch.equal(model.head.weight, head)


def test_wrong_shapes_are_named(tmp_path):
    path = save(tmp_path / 'wide.pth', ToyModel(width=3).state_dict())
    model = ToyModel(width=2)
    before = model.encoder.weight.clone()
    with pytest.raises(ValueError, match=(
            r'wide\.pth does not fit(?s:.*)encoder\.weight: checkpoint \(3, 1\), model \(2, 1\)')):
        load_stage_checkpoint(model, path)
    assert torch.equal(model.encoder.weight, before)


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = save(tmp_path / 'other.pth', {'backbone.weight': torch.ones(1)})
    with pytest.raises(ValueError, match=r'no weight of this model; it holds backbone \(1\)'):
        load_stage_checkpoint(ToyModel(), path)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        load_stage_checkpoint(ToyModel(), 'nowhere.pth')


class Payload:
    """An object whose loading would run code."""

    def __reduce__(self):
        return (exec, ("print('ran')",))


def test_objects_in_a_checkpoint_are_not_run(tmp_path, capsys):
    path = save(tmp_path / 'bad.pth', ToyModel().state_dict(), extra=Payload())
    with pytest.raises(CheckpointError, match=r'bad\.pth holds a Python object \(exec\)'):
        load_stage_checkpoint(ToyModel(), path)
    assert 'ran' not in capsys.readouterr().out


def test_runner_hands_over_and_its_own_checkpoint_loads_safely(toy_config, make_runner, tmp_path):
    first = make_runner(toy_config)
    first.train()
    last = f'{first.work_dir}/iter_4.pth'
    assert load_stage_checkpoint(ToyModel(), last).fresh == []
    toy_config.load_from = last
    toy_config.experiment_name += 'second'
    toy_config.work_dir = str(tmp_path / 'second')
    second = make_runner(toy_config)
    second.load_or_resume()
    assert torch.equal(second.model.head.weight, first.model.head.weight)


def test_runner_refuses_wrong_shapes(toy_config, make_runner, tmp_path):
    toy_config.load_from = save(tmp_path / 'wide.pth', ToyModel(width=3).state_dict())
    runner = make_runner(toy_config)
    with pytest.raises(ValueError, match='head.weight: checkpoint'):
        runner.load_or_resume()


def test_resuming_needs_every_trainable_weight(toy_config, make_runner, tmp_path):
    state = {k: v for k, v in ToyModel().state_dict().items() if k.startswith('encoder')}
    path = save(tmp_path / 'one.pth', state, meta=dict(iter=2, epoch=0), message_hub={})
    toy_config.load_from, toy_config.resume = path, True
    with pytest.raises(CheckpointError, match=(
            r'one\.pth: the checkpoint lacks 2 trainable parameters, the first is head.weight')):
        make_runner(toy_config).train()


def test_weights_without_the_state_of_a_run_cannot_be_resumed(toy_config, make_runner, stage_one):
    toy_config.load_from, toy_config.resume = stage_one, True
    with pytest.raises(CheckpointError, match=(
            r'one\.pth: it holds weights, but not the state of a run \(meta.iter, meta.epoch, '
            r'message_hub\).*--load-from')):
        make_runner(toy_config).train()


def cut(path):
    """A checkpoint of which the last bytes are missing."""
    whole = Path(save(path, ToyModel().state_dict())).read_bytes()
    path.write_bytes(whole[:-40])
    return str(path)


def test_a_file_that_is_not_whole_is_named(tmp_path):
    path = cut(tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match=r'cut\.pth is cut off or damaged'):
        load_stage_checkpoint(ToyModel(), path)


@pytest.mark.parametrize('content, fault', [
    (None, 'is cut off or damaged'), (b'', 'is empty'), (b'<html>', 'is an HTML page')])
def test_broken_files_stop_the_command_before_anything_is_built(
        toy_config, tmp_path, content, fault):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content) if content is not None else cut(path)
    toy_config.load_from = str(path)
    with pytest.raises(ConfigError, match=rf'load_from: .*broken\.pth {fault}'):
        check_config(toy_config)


def test_weights_that_are_not_finite_are_refused(toy_config, make_runner, tmp_path):
    state = ToyModel().state_dict()
    state['head.weight'][0, 1] = float('nan')
    path = save(tmp_path / 'nan.pth', state)
    message = '1 tensors hold values that are not finite, the first is head.weight'
    with pytest.raises(ValueError, match=rf'nan\.pth: {message}'):
        load_stage_checkpoint(ToyModel(), path)
    toy_config.load_from = path
    with pytest.raises(ValueError, match=message):
        make_runner(toy_config).train()


def trained_only(cfg, tmp_path, name, load_from):
    cfg = copy.deepcopy(cfg)
    cfg.custom_hooks[0].trained_only = True
    cfg.load_from, cfg.work_dir = load_from, str(tmp_path / name)
    cfg.experiment_name += name
    return cfg


def test_a_checkpoint_holds_what_was_trained_and_finds_the_rest(
        toy_config, make_runner, tmp_path):
    base = save(tmp_path / 'base.pth', ToyModel().state_dict())
    first = make_runner(trained_only(toy_config, tmp_path, 'first', base))
    first.train()
    path = f'{first.work_dir}/iter_4.pth'
    written = read_checkpoint(path)
    assert list(written['state_dict']) == ['head.weight', 'head.bias']
    assert written['meta']['frozen_from'] == base
    second = make_runner(trained_only(toy_config, tmp_path, 'second', path))
    second.load_or_resume()
    for key, value in second.model.state_dict().items():
        assert torch.equal(value, first.model.state_dict()[key]), key
    alone = ToyModel()
    assert load_stage_checkpoint(alone, path).fresh == []
    assert torch.equal(alone.encoder.weight, first.model.encoder.weight)
    Path(base).unlink()
    with pytest.raises(FileNotFoundError, match=r'frozen come from .*base\.pth, which is not'):
        load_stage_checkpoint(ToyModel(), path)


def test_resuming_keeps_finding_the_rest(toy_config, make_runner, tmp_path):
    base = save(tmp_path / 'base.pth', ToyModel().state_dict())
    cfg = trained_only(toy_config, tmp_path, 'first', base)
    make_runner(cfg).train()
    cfg = trained_only(toy_config, tmp_path, 'second', f'{cfg.work_dir}/iter_2.pth')
    cfg.resume = True
    second = make_runner(cfg)
    second.train()
    written = read_checkpoint(f'{second.work_dir}/iter_4.pth')
    assert list(written['state_dict']) == ['head.weight', 'head.bias']
    assert written['meta']['frozen_from'] == base
    assert torch.equal(second.model.encoder.weight,
                       read_checkpoint(base)['state_dict']['encoder.weight'])


def test_frozen_weights_that_are_nowhere_else_are_kept(toy_config, make_runner, tmp_path):
    runner = make_runner(trained_only(toy_config, tmp_path, 'first', None))
    runner.train()
    written = read_checkpoint(f'{runner.work_dir}/iter_4.pth')
    assert set(written['state_dict']) == set(ToyModel().state_dict())
    assert 'frozen_from' not in written['meta']


@pytest.fixture
def without_encoder(toy_config, make_runner, tmp_path):
    """A checkpoint of a run whose frozen encoder was pretrained, and where from."""
    source = str(tmp_path / 'phi')
    cfg = trained_only(toy_config, tmp_path, 'first', None)
    cfg.model.pretrained = source
    make_runner(cfg).train()
    return f'{cfg.work_dir}/iter_2.pth', source


def test_a_checkpoint_names_the_pretrained_parts_that_it_leaves_out(without_encoder):
    path, source = without_encoder
    written = read_checkpoint(path)
    assert list(written['state_dict']) == ['head.weight', 'head.bias']
    assert written['meta']['pretrained_from'] == {'encoder': source}


@pytest.mark.parametrize('start', ['load', 'resume', 'test', 'by hand'])
def test_a_part_left_out_must_be_given_again(
        toy_config, make_runner, tmp_path, without_encoder, start):
    path, source = without_encoder
    message = f'does not hold encoder, which its run had from {source}.*encoder.pretrained='
    if start == 'by hand':
        with pytest.raises(ValueError, match=message):
            load_stage_checkpoint(ToyModel(), path)
        assert load_stage_checkpoint(ToyModel(pretrained=source), path).fresh
        return
    cfg = trained_only(toy_config, tmp_path, 'second', path)
    cfg.resume = start == 'resume'
    with pytest.raises(ValueError, match=message):
        getattr(make_runner(cfg), 'test' if start == 'test' else 'train')()
    cfg.model.pretrained, cfg.experiment_name = source, cfg.experiment_name + 'again'
    runner = make_runner(cfg)
    getattr(runner, 'test' if start == 'test' else 'train')()
    assert (runner.model.encoder.weight == 3).all()


def test_a_part_left_out_may_come_from_the_file_named_for_the_rest(tmp_path, without_encoder):
    path, source = without_encoder
    base = save(tmp_path / 'base.pth', ToyModel(pretrained=source).state_dict())
    state = read_checkpoint(path)['state_dict']
    both = save(tmp_path / 'both.pth', state, meta=dict(
        frozen_from=base, pretrained_from={'encoder': source}))
    assert load_stage_checkpoint(ToyModel(), both).fresh == []


@pytest.mark.parametrize('given', [
    'nothing', 'pretrained', 'load_from', 'another part', 'allowed'])
def test_a_frozen_part_needs_weights_from_somewhere(toy_config, make_runner, tmp_path, given):
    toy_config.custom_hooks[0].allow_frozen_random_init = ['encoder'] if given == 'allowed' else []
    if given == 'pretrained':
        toy_config.model.pretrained = 'phi'
    elif given in ('load_from', 'another part'):
        part = 'encoder' if given == 'load_from' else 'head'
        state = {k: v for k, v in ToyModel().state_dict().items() if k.startswith(part)}
        toy_config.load_from = save(tmp_path / 'one.pth', state)
    runner = make_runner(toy_config)
    if given not in ('nothing', 'another part'):
        runner.train()
        return
    with pytest.raises(ValueError, match=r'model\.encoder is frozen at random values: 2 param'):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize('batch, fits', [(2, True), (4, False)])
def test_resuming_with_other_images_a_pass_is_refused(
        toy_config, make_runner, tmp_path, batch, fits):
    make_runner(toy_config).train()
    toy_config.load_from, toy_config.resume = f'{toy_config.work_dir}/iter_2.pth', True
    toy_config.train_dataloader.batch_size = batch
    toy_config.experiment_name += 'again'
    runner = make_runner(toy_config)
    if fits:
        runner.train()
        assert runner.iter == 4
        return
    with pytest.raises(ValueError, match='took 2 images when the run began and would take 4'):
        runner.train()


class Adapted(torch.nn.Module):
    """A layer as peft leaves it: the weights renamed, adapters beside them."""

    def __init__(self):
        super().__init__()
        self.base_layer = torch.nn.Linear(2, 2).requires_grad_(False)
        self.lora_A = torch.nn.Linear(2, 1, bias=False)


def test_weights_find_the_layers_that_have_adapters_now(tmp_path):
    model = torch.nn.ModuleDict(dict(q_proj=Adapted()))
    plain = {'q_proj.weight': torch.ones(2, 2), 'q_proj.bias': torch.ones(2)}
    report = load_stage_checkpoint(model, save(tmp_path / 'plain.pth', plain))
    assert report.fresh == ['q_proj.lora_A.weight'] and not report.unused
    assert (model['q_proj'].base_layer.weight == 1).all()
