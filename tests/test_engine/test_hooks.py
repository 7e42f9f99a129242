# Copyright (c) mvp_mm authors. All rights reserved.
import re
from pathlib import Path

import pytest
import torch

from mvp_mm.engine.hooks import count_parameters
from tests.test_engine.toys import ToyModel


def test_parameters_are_counted_by_part():
    assert count_parameters(ToyModel(width=3)) == dict(encoder=(6, 0), head=(4, 4))


def test_trainable_report_is_logged(toy_config, make_runner):
    toy_config.custom_hooks.append(dict(type='TrainableReportHook'))
    runner = make_runner(toy_config)
    runner.train()
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert re.search(r'encoder +4 +0\n', text)
    assert re.search(r'head +3 +3\n', text)
    assert re.search(r'all +7 +3\n', text)


@pytest.mark.parametrize('broken_at', [1, 3])
def test_a_broken_loss_stops_before_the_weights_change(toy_config, make_runner, broken_at):
    toy_config.custom_hooks.append(dict(type='CheckFiniteLossHook'))
    runner = make_runner(toy_config)
    runner.model.broken_at = broken_at
    with pytest.raises(FloatingPointError, match=f'iteration {broken_at}: loss_box_l1 = nan'):
        runner.train()
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())


def test_finite_losses_train_on(toy_config, make_runner):
    toy_config.custom_hooks.append(dict(type='CheckFiniteLossHook', interval=2))
    runner = make_runner(toy_config)
    before = runner.model.head.weight.clone()
    runner.train()
    assert runner.iter == 4
    assert not torch.equal(before, runner.model.head.weight)
    assert not runner.model._forward_hooks
