# Copyright (c) mvp_mm authors. All rights reserved.
"""What happens to a training step with values that are not finite."""
from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed, multiprocessing

from mvp_mm.engine.batch_dumps import read_dump
from mvp_mm.engine.optim_wrappers import AutocastOptimWrapper
from mvp_mm.engine.replay import replay
from mvp_mm.models.losses.matcher import HungarianMatcher
from mvp_mm.registry import RUNNERS
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.structures import SegmentKind
from tests.helpers import save_tokenizer
from tests.test_engine.perception_runs import run_config
from tests.test_engine.processes import START_METHOD


class Spoil(Hook):
    """Plants a value into image, weight or gradient before given iterations."""

    def __init__(self, kind, value=float('nan'), at=(2, )):
        self.kind, self.value, self.at = kind, value, at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 not in self.at:
            return
        weight = runner.model.head.weight
        if self.kind == 'image':
            data_batch['inputs'][1] = self.value
        elif self.kind == 'weight':
            weight.data[0, 1] = self.value
        elif self.kind == 'gradient':
            handle = weight.register_hook(lambda g: (handle.remove(), g * self.value)[1])


def train(toy_config, make_runner, spoil, **settings):
    toy_config.custom_hooks.append(dict(type='FiniteStepHook', **settings))
    runner = make_runner(toy_config)
    runner.register_hook(spoil, priority='LOWEST')
    weights = []

    class Keep(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            weights.append(runner.model.head.weight.detach().clone())

    runner.register_hook(Keep())
    return runner, weights


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


@pytest.mark.parametrize('kind, message', [
    ('image', 'iteration 2: image: inputs holds nan'),
    ('gradient', 'iteration 2: gradient: head.weight has nan')])
def test_a_bad_step_is_skipped_counted_and_told(toy_config, make_runner, kind, message):
    runner, weights = train(toy_config, make_runner, Spoil(kind))
    runner.train()
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert all(w.isfinite().all() for w in weights)
    assert (runner.optim_wrapper.skipped, runner.optim_wrapper.skipped_in_a_row) == (1, 0)
    assert runner.message_hub.get_info('skipped_steps') == 1
    assert not runner.model._forward_hooks
    text = log_of(runner)
    assert text.count('Not finite at ') == 1 and message in text
    assert 'Step skipped, 1 in a row, 1 in all' in text


def test_a_skipped_step_leaves_the_logged_averages_alone(toy_config, make_runner):
    runner, _ = train(toy_config, make_runner, Spoil('image'))
    runner.train()
    assert not re.search(r'\[[134]/4\].*loss: nan', log_of(runner))


def test_a_broken_loss_names_its_term(toy_config, make_runner):
    runner, _ = train(toy_config, make_runner, Spoil('none'), max_skips=0)
    runner.model.broken_at = 3
    with pytest.raises(FloatingPointError, match='iteration 3: loss: loss_box_l1 = nan'):
        runner.train()
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())


def test_a_bad_weight_stops_the_run_at_once(toy_config, make_runner):
    runner, _ = train(toy_config, make_runner, Spoil('weight', float('inf')))
    with pytest.raises(FloatingPointError, match=r'iteration 2: weight: head\.weight holds inf'):
        runner.train()


def test_the_run_stops_after_so_many_bad_steps_in_a_row(toy_config, make_runner):
    runner, weights = train(
        toy_config, make_runner, Spoil('gradient', at=(1, 3, 4)), max_skips=1)
    with pytest.raises(FloatingPointError, match='iteration 4: .*2 bad steps in a row'):
        runner.train()
    assert runner.optim_wrapper.skipped == 3 and len(weights) == 3


def test_a_pass_of_an_accumulated_step_is_pointed_out(toy_config, make_runner):
    toy_config.optim_wrapper.accumulative_counts = 3
    toy_config.train_cfg.max_iters = 6
    runner, weights = train(toy_config, make_runner, Spoil('image', at=(2, )))
    runner.train()
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[4], weights[5])
    dump, = Path(runner.work_dir, 'non_finite').iterdir()
    found = read_dump(dump)
    assert dump.name == 'iter_3_rank0.pth'
    assert [one.iteration for one in found.passes] == [1]


def test_an_unguarded_wrapper_is_refused(toy_config, make_runner):
    toy_config.optim_wrapper.type = 'mmengine.OptimWrapper'
    runner, _ = train(toy_config, make_runner, Spoil('none'))
    with pytest.raises(ValueError, match='FiniteStepHook needs an optim_wrapper that checks'):
        runner.train()


def overflowing(toy_config, make_runner, iterations, **settings):
    """A run in float16 whose loss scale is far too large."""
    toy_config.optim_wrapper.update(
        type='AutocastOptimWrapper', dtype='float16', loss_scale=2.0**24, **settings)
    toy_config.train_cfg.max_iters = iterations
    toy_config.default_hooks.checkpoint.interval = iterations
    toy_config.default_hooks.logger.interval = 1000
    return train(toy_config, make_runner, Spoil('none'), max_skips=0)


def test_float16_lowers_its_scale_until_gradients_fit(toy_config, make_runner):
    runner, weights = overflowing(toy_config, make_runner, 20)
    runner.train()
    wrapper = runner.optim_wrapper
    taken = [not torch.equal(a, b) for a, b in zip(weights, weights[1:], strict=False)]
    assert taken == sorted(taken) and taken[-1]
    assert wrapper.loss_scale == 2.0**(24 - taken.index(True) - 1) and wrapper.skipped == 0


def test_the_scale_of_float16_grows_again_and_is_saved(toy_config, make_runner):
    runner, _ = overflowing(toy_config, make_runner, 10, growth_interval=3)
    runner.optim_wrapper['loss_scale'] = 4.0
    runner.train()
    wrapper = runner.optim_wrapper
    assert wrapper.loss_scale == 4.0 * 2**(10 // 3)
    other = AutocastOptimWrapper('float16', optimizer=torch.optim.SGD(
        runner.model.parameters(), lr=0.1))
    other.load_state_dict(wrapper.state_dict())
    assert (other.loss_scale, other._since_overflow) == (wrapper.loss_scale, 1)


def test_a_broken_loss_in_float16_is_told_and_lowers_the_scale(toy_config, make_runner):
    toy_config.optim_wrapper.update(
        type='AutocastOptimWrapper', dtype='float16', loss_scale=2.0**8)
    runner, _ = train(toy_config, make_runner, Spoil('image'))
    runner.train()
    assert (runner.optim_wrapper.skipped, runner.optim_wrapper.loss_scale) == (1, 2.0**7)
    assert 'image: inputs holds nan' in log_of(runner)


class SpoilImage(Hook):
    """Makes one pixel of the first image of the second pass NaN."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            data_batch['inputs'][0] = data_batch['inputs'][0].float()
            data_batch['inputs'][0][0, 3, 3] = float('nan')


@pytest.fixture(scope='module')
def spoilt_run(tmp_path_factory):
    """A runner of the tiny model after a step with a bad image, and its work folder."""
    folder = tmp_path_factory.mktemp('spoilt')
    tokenizer = save_tokenizer(folder / 'tokenizer')
    cfg = run_config(folder, tokenizer, 'run', 2, load_from=None)
    cfg.custom_hooks = [dict(type='FiniteStepHook')]
    cfg.train_cfg.max_iters = 4
    runner = RUNNERS.build(cfg)
    runner.register_hook(SpoilImage())
    states = []

    class Keep(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            states.append({name: p.detach().clone()
                           for name, p in runner.model.named_parameters()})

    runner.register_hook(Keep())
    runner.train()
    forget_runs()
    return SimpleNamespace(runner=runner, cfg=cfg, states=states)


def test_a_bad_image_passes_the_matching_and_is_named(spoilt_run):
    before, second, _, fourth = spoilt_run.states
    assert all(torch.equal(before[name], second[name]) for name in before)
    assert any(not torch.equal(second[name], fourth[name]) for name in before)
    assert all(p.isfinite().all() for p in fourth.values())
    dump, = Path(spoilt_run.runner.work_dir, 'non_finite').iterdir()
    assert 'iteration 2: image: inputs[0] holds nan' in read_dump(dump).message


def test_a_replay_finds_the_same_fault_and_the_module(spoilt_run):
    dump = read_dump(next(Path(spoilt_run.runner.work_dir, 'non_finite').iterdir()))
    found, = replay(spoilt_run.runner.model, spoilt_run.runner.optim_wrapper, dump)
    assert str(found.fault) == 'image: inputs[0] holds nan'
    assert found.module.startswith('data_preprocessor (')
    assert found.then.losses.keys() == found.now.losses.keys()
    assert 'loss_llm' in str(found)


def test_a_replay_of_a_sound_batch_gives_the_losses_of_the_run(spoilt_run):
    dump = read_dump(next(Path(spoilt_run.runner.work_dir, 'non_finite').iterdir()))
    one, = dump.passes
    one.batch['inputs'][0] = torch.nan_to_num(one.batch['inputs'][0])
    losses = [replay(spoilt_run.runner.model, spoilt_run.runner.optim_wrapper, dump)[0].now.losses
              for _ in range(2)]
    assert losses[0] == losses[1] and all(value.isfinite() for value in losses[0].values())


def test_a_dump_with_foreign_objects_is_not_read(tmp_path):
    torch.save(dict(passes=[], message=Path('x')), tmp_path / 'dump.pth')
    with pytest.raises(ValueError, match='dump.pth is no dump of a training step: .*Path'):
        read_dump(tmp_path / 'dump.pth')


def test_costs_that_are_not_finite_are_noticed():
    matcher = HungarianMatcher()
    matcher.cost = lambda *_: torch.tensor([[[[float('nan')], [2.0], [1.0]]]])
    matcher.eligible = lambda *_: torch.ones(1, 1, 3, 1, dtype=torch.bool)
    targets = SimpleNamespace(on_host=SimpleNamespace(count=np.array([1])))
    matches = matcher(None, targets, None, None)
    assert matcher.saw_bad_costs and len(matches.queries) == 1


def run_rank(rank, cfg, folder, kind):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    runner = Runner.from_cfg(cfg)
    states = []

    class Plant(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            model = runner.model.module
            if runner.iter == 1 and rank == 1 and kind == 'image':
                data_batch['inputs'][1] = float('nan')
            # Infinite, with gradients that are finite.
            model.offset = float('inf') if runner.iter == 1 and rank == 1 and (
                kind == 'loss') else 0.0

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            states.append(runner.model.module.head.weight.detach().clone())

    runner.register_hook(Plant())
    runner.train()
    torch.save((states, runner.optim_wrapper.skipped), f'{folder}/found{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.parametrize('kind, fault', [
    ('image', 'image: inputs holds nan'), ('loss', 'loss: loss_word = inf')])
def test_ranks_skip_a_step_together(toy_config, tmp_path, kind, fault):
    toy_config.launcher = 'pytorch'
    toy_config.env_cfg = dict(dist_cfg=dict(backend='gloo'))
    toy_config.model_wrapper_cfg = dict(
        type='mvp_mm.MVPDistributedDataParallel', broadcast_buffers=False,
        gradient_as_bucket_view=True)
    toy_config.custom_hooks.append(dict(type='FiniteStepHook'))
    multiprocessing.start_processes(
        run_rank, (toy_config, tmp_path, kind), nprocs=2, start_method=START_METHOD)
    (first, skips), (second, others) = (torch.load(tmp_path / f'found{r}.pth') for r in range(2))
    assert skips == others == 1
    assert all(torch.equal(a, b) and a.isfinite().all()
               for a, b in zip(first, second, strict=True))
    assert torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    dump, = Path(toy_config.work_dir, 'non_finite').iterdir()
    assert dump.name == 'iter_2_rank1.pth'
    assert f'iteration 2 (rank 1): {fault}' in read_dump(dump).message


def test_kinds_of_segments_are_pickled_by_their_value():
    assert SegmentKind.PER.__reduce_ex__(2) == (SegmentKind, ('per',))
    assert pickle.loads(pickle.dumps(SegmentKind.PER)) is SegmentKind.PER
