# Copyright (c) mvp_mm authors. All rights reserved.
"""NaN and infinity at any place of a training step: named, never in a weight that is saved."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mvp_mm.engine.batch_dumps import read_dump
from mvp_mm.registry import RUNNERS
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils.checkpoint_io import read_checkpoint
from tests.helpers import save_tokenizer
from tests.test_engine.perception_runs import run_config

STEP = 1  # the iteration that is spoilt, from 0
# Per place, the beginning of the message and whether the run stops at once.
PLACES = {
    'image': (r'image: inputs\[0\] holds', False),
    'encoder weight': (r'weight: encoder\.\S+ holds', True),
    'pixel decoder weight': (r'weight: pixel_decoder\.\S+ holds', True),
    'LLM weight': (r'weight: llm\.\S+ holds', True),
    'loss': (r'loss: \S*loss_\S+ =', False),
    'gradient': (r'gradient: pixel_decoder\.\S+ has', False),
    # The step is taken, since its gradients are finite; the weight that it spoils is found next.
    'moment': (r'weight: pixel_decoder\.\S+ holds', True),
}


class Spoil(Hook):
    """Plants a value at a place."""

    def __init__(self, place, value):
        self.place, self.value = place, value

    def before_train(self, runner):
        if self.place == 'loss':
            # Before the hook that keeps the losses.
            runner.model.register_forward_hook(
                lambda model, args, losses: self._spoil_loss(runner, losses), prepend=True)

    def _spoil_loss(self, runner, losses):
        if runner.iter == STEP:
            name = sorted(losses)[0]
            term = losses[name]
            losses[name] = [one * self.value for one in term] if isinstance(term, list) else (
                term * self.value)
        return losses

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != STEP or self.place == 'loss':
            return
        if self.place == 'image':
            data_batch['inputs'][0] = data_batch['inputs'][0].float()
            data_batch['inputs'][0][0, 3, 3] = self.value
        else:
            self._spoil_parameter(runner)

    def _spoil_parameter(self, runner):
        part = self.place.removesuffix(' weight').replace(' ', '_').lower()
        if part in ('gradient', 'moment'):
            part = 'pixel_decoder'
        parameter = next(p for name, p in runner.model.named_parameters()
                         if name.startswith(f'{part}.') and p.ndim > 1)
        if self.place == 'gradient':
            handle = parameter.register_hook(lambda g: (handle.remove(), g * self.value)[1])
        elif self.place == 'moment':
            state = runner.optim_wrapper.optimizer.state[parameter]
            state['exp_avg'].view(-1)[0] = self.value
        else:
            parameter.data.view(-1)[0] = self.value


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('places') / 'tokenizer')


@pytest.mark.parametrize('value', [float('nan'), float('inf')], ids=['nan', 'inf'])
@pytest.mark.parametrize('place', PLACES)
def test_a_value_that_is_not_finite_is_named_and_never_saved(tokenizer, tmp_path, place, value):
    message, stops = PLACES[place]
    cfg = run_config(tmp_path, tokenizer, 'run', 1, load_from=None)
    cfg.custom_hooks = [dict(type='FiniteStepHook')]
    cfg.optim_wrapper.accumulative_counts = 1
    cfg.train_cfg.max_iters = 3
    cfg.default_hooks.checkpoint = dict(
        type='VerifiedCheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=3)
    runner = RUNNERS.build(cfg)
    runner.register_hook(Spoil(place, value))
    if stops:
        with pytest.raises(FloatingPointError, match=rf'{message}|Nothing is saved at'):
            runner.train()
    else:
        runner.train()
        dump, = Path(cfg.work_dir, 'non_finite').iterdir()
        assert re.match(rf'Not finite at iteration {STEP + 1}: {message}', read_dump(dump).message)
        assert runner.optim_wrapper.skipped == 1
    forget_runs()
    saved = sorted(Path(cfg.work_dir).glob('iter_*.pth'))
    assert len(saved) == (STEP if stops else 3)
    for path in saved:
        weights = read_checkpoint(path)['state_dict']
        assert all(torch.isfinite(w).all() for w in weights.values() if w.is_floating_point())
