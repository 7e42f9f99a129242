# Copyright (c) mvp_mm authors. All rights reserved.
"""Five steps of two processes, data-parallel or sharded, give what one process gives."""
from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from torch import distributed, multiprocessing
from torch.distributed.tensor import DTensor

from mvp_mm.engine import ConfigError, ShardedRunner, check_config
from mvp_mm.models.llms import CausalLM
from mvp_mm.registry import MODELS, RUNNERS
from mvp_mm.utils.checkpoint_io import read_checkpoint
from tests.helpers import make_batch, make_samples, save_tokenizer
from tests.test_engine.perception_runs import PASSES, STEPS, run, run_config

MIDDLE, END = 6, STEPS * PASSES
EVERY = {'default_hooks.checkpoint.interval': MIDDLE}
SHARDED = dict(runner_type='ShardedRunner', model_wrapper_cfg=None)
# Precision and LLM as stage2.py and stage2_sharded.py ship them; a step of two passes is enough.
IN_BFLOAT16 = {'optim_wrapper.type': 'AutocastOptimWrapper', 'optim_wrapper.dtype': 'bfloat16',
               'train_cfg.max_iters': PASSES, 'default_hooks.checkpoint.interval': END}
SHIPPED = {'model.llm.split_by_length': True, 'model.llm.gradient_checkpointing': False,
           **IN_BFLOAT16}


def shares(model):
    """Bytes of the parameters that this process keeps, and of the whole."""
    mine = sum(p.to_local().nbytes for p in model.parameters() if isinstance(p, DTensor))
    return mine, sum(p.nbytes for p in model.parameters())


def answer(model, tokenizer):
    """Boxes for a panoptic instruction."""
    batch = make_batch([make_samples('PanopticTask', tokenizer, training=False)])
    model.eval()
    sample, = model.val_step(batch)
    return sample.pred_instances.bboxes


class KeepTypes(Hook):
    """Keeps the types that weights of the first LLM layer and the encoder are gathered in."""

    def before_train(self, runner):
        self.types = {}
        model = runner.model
        parts = dict(mlp=model.llm.shard_units()[0].mlp.fc1, norm=next(
            m for m in model.llm.shard_units()[0].modules() if isinstance(m, torch.nn.LayerNorm)),
            patch=model.encoder.backbone.patch_embed.projection, query=model.pixel_decoder)
        for name, part in parts.items():
            part.register_forward_hook(partial(self.keep, name))

    def keep(self, name, module, args, output):
        self.types[name] = next(module.parameters()).dtype


def gathered_types(folder, tokenizer):
    """Types during the forward pass, and those of the shards and gradients' moments."""
    cfg = run_config(Path(folder), tokenizer, 'types', 1, launcher='pytorch',
                     **{**EVERY, **SHARDED, **IN_BFLOAT16})
    runner = RUNNERS.build(cfg)
    hook = KeepTypes()
    runner.register_hook(hook)
    runner.train()
    DefaultScope._instance_dict.clear()
    kept = {p.dtype for p in runner.model.parameters()}
    for state in runner.optim_wrapper.optimizer.state.values():
        kept |= {value.dtype for key, value in state.items() if key != 'step'}
    return hook.types, kept


def run_process(rank, folder, tokenizer):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    found = {}
    cases = dict(parallel={}, sharded_resumed={
        **SHARDED, 'resume': True, 'load_from': f'{folder}/one/iter_{MIDDLE}.pth'},
        sharded=SHARDED)
    # The last one is looked at below.
    cases = dict(parallel_shipped=SHIPPED, sharded_shipped={**SHARDED, **IN_BFLOAT16}, **cases)
    for name, changes in cases.items():
        cfg = run_config(Path(folder), tokenizer, name, 1, launcher='pytorch',
                         **{**EVERY, **changes})
        runner, *found[name] = run(cfg)
        DefaultScope._instance_dict.clear()
    found['gathered'] = gathered_types(folder, tokenizer)
    found['shares'] = shares(runner.model)
    runner.call_hook('before_val')
    # One process has more to answer than the other.
    found['answers'] = [answer(runner.model, tokenizer) for _ in range(1 + rank)]
    runner.call_hook('after_val')
    found['shares_after'] = shares(runner.model)
    torch.save(found, f'{folder}/found{rank}.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Losses and norms of each way to train, by name, and what the processes tell."""
    folder = tmp_path_factory.mktemp('runs')
    tokenizer = save_tokenizer(folder / 'tokenizer')
    cfg = run_config(folder, tokenizer, 'one', 2, **EVERY)
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        # Nothing stays at an initial zero that would hide a gradient.
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    torch.save(dict(state_dict=model.state_dict()), folder / 'start.pth')
    results = dict(folder=folder, tokenizer=tokenizer, model=model, one=run(cfg)[1:])
    multiprocessing.spawn(run_process, (str(folder), tokenizer), nprocs=2)
    found = [torch.load(folder / f'found{rank}.pth') for rank in range(2)]
    results['one_shipped'] = run(run_config(
        folder, tokenizer, 'one_shipped', 2, **{**EVERY, **SHIPPED}))[1:]
    for name in ('parallel', 'sharded', 'parallel_shipped', 'sharded_shipped'):
        pairs = zip(found[0][name][0], found[1][name][0], strict=True)
        results[name] = ([{k: (a[k] + b[k]) / 2 for k in a} for a, b in pairs],
                         found[0][name][1])
    run(run_config(folder, tokenizer, 'one_resumed', 2, resume=True,
                   load_from=str(folder / f'sharded/iter_{MIDDLE}.pth'), **EVERY))
    DefaultScope._instance_dict.clear()
    return {**results, 'processes': found}


def weights(runs, name):
    return torch.load(runs['folder'] / f'{name}/iter_{END}.pth', weights_only=False)['state_dict']


def seen(name, value):
    """The part of a tensor that the model's output depends on.

    Softmax does not see the bias of the keys: its gradient is rounding error, which AdamW makes
    a step of.
    """
    if name.endswith('self_attention.in_proj_bias'):
        query, _, value = value.chunk(3)
        return torch.cat([query, value])
    return value[:0] if name.endswith('k_proj.bias') else value


@pytest.mark.parametrize('name', ['parallel', 'sharded', 'sharded_resumed', 'one_resumed'])
def test_weights_are_those_of_one_process(runs, name):
    start = torch.load(runs['folder'] / 'start.pth')['state_dict']
    found, expected = weights(runs, name), weights(runs, 'one')
    assert list(found) == list(expected) == list(start)
    compared = 0
    for key, value in expected.items():
        value, other = seen(key, value), seen(key, found[key])
        if value.is_floating_point() and value.numel():
            gap = (other - value).abs().max() / value.abs().max().clamp(min=1e-2)
            assert gap <= 1e-5, f'{key}: {gap:.1e}'
            compared += value.numel()
    assert compared > 0.99 * sum(p.numel() for p in runs['model'].parameters())
    still = {key.split('.')[0] for key in start if torch.equal(expected[key], start[key])}
    assert still == {'encoder'}


@pytest.mark.parametrize('name', ['parallel', 'sharded'])
def test_losses_are_those_of_one_process(runs, name):
    (found, norms), (expected, wanted) = runs[name], runs['one']
    assert len(found) == len(expected) == END
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {'mean_phrase_cosine'}:
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-6), key
    assert norms == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize('name', ['parallel_shipped', 'sharded_shipped'])
def test_losses_as_shipped_are_those_of_one_process_within_bfloat16(runs, name):
    (found, norms), (expected, wanted) = runs[name], runs['one_shipped']
    assert len(found) == len(expected) == PASSES
    exact = runs['one'][0]
    for a, b, c in zip(found, expected, exact[:PASSES], strict=True):
        assert a.keys() == b.keys() == c.keys()
        # Weights gathered in bfloat16 may have other queries selected and matched.
        assert a['loss'] == pytest.approx(b['loss'], rel=0.03 if 'parallel' in name else 0.06)
        for key in (key for key in a if key.startswith('denoise.')):
            assert a[key] == pytest.approx(b[key], rel=0.05, abs=0.02), key
        assert a['loss_llm'] == pytest.approx(b['loss_llm'], rel=0.01)
        # bfloat16 is really on; a young LLM's loss alone may hardly show it.
        assert any(a[key] != pytest.approx(c[key], rel=1e-5) for key in c)
    assert norms == pytest.approx(wanted, rel=0.1)


def test_a_sharded_run_saves_what_a_plain_one_does(runs):
    plain, sharded = (read_checkpoint(runs['folder'] / f'{name}/iter_{END}.pth')
                      for name in ('one', 'sharded'))
    assert plain.keys() == sharded.keys()
    expected, found = plain['optimizer'], sharded['optimizer']
    assert found['param_groups'] == expected['param_groups']
    assert found['state'].keys() == expected['state'].keys()
    for index, moments in expected['state'].items():
        for key, value in moments.items():
            assert found['state'][index][key].shape == value.shape
            assert type(found['state'][index][key]) is torch.Tensor


def test_layers_are_gathered_in_bfloat16_and_updated_in_float32(runs):
    for found in runs['processes']:
        types, kept = found['gathered']
        assert types == dict(mlp=torch.bfloat16, norm=torch.float32, patch=torch.bfloat16,
                             query=torch.float32)
        assert kept == {torch.float32}


def test_each_process_keeps_half(runs):
    for found in runs['processes']:
        for mine, whole in (found['shares'], found['shares_after']):
            assert 0.4 * whole < mine < 0.6 * whole


def test_validation_needs_no_other_process(runs):
    first, second = (found['answers'] for found in runs['processes'])
    assert (len(first), len(second)) == (1, 2)
    runs['model'].load_state_dict(weights(runs, 'sharded'))
    expected = answer(runs['model'], runs['tokenizer'])
    for boxes in (*first, *second):
        torch.testing.assert_close(boxes, expected, atol=1e-3, rtol=1e-4)


def test_an_llm_that_runs_more_or_less_often_cannot_be_sharded():
    llm = CausalLM(dict(model_type='phi', vocab_size=8, hidden_size=8, intermediate_size=8,
                        num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match='needs llm.split_by_length=False'):
        llm.shard_units()


def test_one_process_trains_as_it_always_does(toy_config, make_runner):
    toy_config.runner_type = 'ShardedRunner'
    runner = ShardedRunner.from_cfg(toy_config)
    runner.train()
    assert runner.iter == 4
    assert not any(isinstance(p, DTensor) for p in runner.model.parameters())


def test_an_unknown_runner_is_named(toy_config):
    toy_config.runner_type = 'ShardRunner'
    with pytest.raises(ConfigError, match="'ShardRunner' is no runner; did you mean 'Sharded"):
        check_config(toy_config)
