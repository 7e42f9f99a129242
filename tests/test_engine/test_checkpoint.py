# Copyright (c) mvp_mm authors. All rights reserved.
import pickle

import pytest
import torch

from mvp_mm.engine import load_stage_checkpoint
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
            r'wide\.pth.*(?s:.*)encoder\.weight: checkpoint \(3, 1\), model \(2, 1\)')):
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
        return (print, ('ran',))


def test_objects_in_a_checkpoint_are_not_run(tmp_path, capsys):
    path = save(tmp_path / 'bad.pth', ToyModel().state_dict(), extra=Payload())
    with pytest.raises(pickle.UnpicklingError):
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


def test_resuming_needs_every_trainable_weight(toy_config, make_runner, stage_one):
    toy_config.load_from, toy_config.resume = stage_one, True
    runner = make_runner(toy_config)
    with pytest.raises(ValueError, match='lacks 2 trainable parameters, the first is head.weight'):
        runner.train()
