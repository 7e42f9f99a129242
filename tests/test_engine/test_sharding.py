# Copyright (c) mvp_mm authors. All rights reserved.
"""Five steps of two processes, data-parallel or sharded, give what one process gives."""
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import distributed, multiprocessing
from torch.distributed.tensor import DTensor

from mvp_mm.engine.sharding import ShardedRunner
from mvp_mm.registry import MODELS
from tests.helpers import save_tokenizer
from tests.test_engine.perception_runs import PASSES, STEPS, run, run_config

MIDDLE, END = 6, STEPS * PASSES
EVERY = {'default_hooks.checkpoint.interval': MIDDLE}
SHARDED = dict(runner_type='ShardedRunner', model_wrapper_cfg=None)


def shares(model):
    """Bytes of the parameters that this process keeps, and of the whole."""
    mine = sum(p.to_local().nbytes for p in model.parameters() if isinstance(p, DTensor))
    return mine, sum(p.nbytes for p in model.parameters())


def run_process(rank, folder, tokenizer):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    found = {}
    cases = dict(parallel={}, sharded=SHARDED, sharded_resumed={
        **SHARDED, 'resume': True, 'load_from': f'{folder}/one/iter_{MIDDLE}.pth'})
    for name, changes in cases.items():
        cfg = run_config(Path(folder), tokenizer, name, 1, launcher='pytorch', **EVERY, **changes)
        found[name] = run(cfg)
        DefaultScope._instance_dict.clear()
    model = MODELS.build(cfg.model)
    runner = ShardedRunner(model, cfg.work_dir, launcher='pytorch', experiment_name='shares')
    found['shares'] = shares(runner.model)
    torch.save(found, f'{folder}/found{rank}.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Losses, norms and weights of each way to train, by name."""
    folder = tmp_path_factory.mktemp('runs')
    tokenizer = save_tokenizer(folder / 'tokenizer')
    cfg = run_config(folder, tokenizer, 'one', 2, **EVERY)
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        # Nothing stays at an initial zero that would hide a gradient.
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    torch.save(dict(state_dict=model.state_dict()), folder / 'start.pth')
    results = dict(one=run(cfg))
    multiprocessing.spawn(run_process, (str(folder), tokenizer), nprocs=2)
    found = [torch.load(folder / f'found{rank}.pth') for rank in range(2)]
    for name in ('parallel', 'sharded', 'sharded_resumed'):
        losses = [[{k: (a[k] + b[k]) / 2 for k in a} for a, b in zip(
            found[0][name][0], found[1][name][0], strict=True)], found[0][name][1]]
        results[name] = losses
    resumed = run_config(folder, tokenizer, 'one_resumed', 2, resume=True,
                         load_from=str(folder / f'sharded/iter_{MIDDLE}.pth'), **EVERY)
    results['one_resumed'] = run(resumed)
    DefaultScope._instance_dict.clear()
    results['shares'] = [f['shares'] for f in found]
    results['folder'] = folder
    return results


def read(runs, name, iteration=END):
    return torch.load(runs['folder'] / f'{name}/iter_{iteration}.pth', weights_only=False)


def distances(found, expected, start):
    """Largest relative differences of a tensor, and of the way that all have come."""
    gap = {k: (found[k] - expected[k]).abs().max() / expected[k].abs().max().clamp(min=1e-2)
           for k in expected if expected[k].is_floating_point()}
    worst = max(gap, key=gap.get)
    off = sum((found[k] - expected[k]).double().square().sum() for k in gap).sqrt()
    way = sum((expected[k] - start[k]).double().square().sum() for k in gap).sqrt()
    return worst, float(gap[worst]), float(off / way)


@pytest.mark.parametrize('name, bound', [
    ('parallel', 1e-5), ('sharded', 1e-4), ('sharded_resumed', 1e-4), ('one_resumed', 1e-4)])
def test_weights_are_those_of_one_process(runs, name, bound):
    start = torch.load(runs['folder'] / 'start.pth')['state_dict']
    found, expected = (read(runs, n)['state_dict'] for n in (name, 'one'))
    assert list(found) == list(expected)
    worst, gap, way = distances(found, expected, start)
    print(name, worst, gap, way)
    assert gap <= bound, f'{worst}: {gap:.1e}'
    still = [k for k in start if torch.equal(expected[k], start[k])]
    assert {k.split('.')[0] for k in still} == {'encoder'}


@pytest.mark.parametrize('name, bound', [('parallel', 1e-5), ('sharded', 1e-4)])
def test_losses_are_those_of_one_process(runs, name, bound):
    (found, norms), (expected, wanted) = runs[name], runs['one']
    assert len(found) == len(expected) == END
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key, value in b.items():
            if key != 'text_cosine':
                assert a[key] == pytest.approx(value, rel=bound, abs=1e-7), key
    assert norms == pytest.approx(wanted, rel=bound)
    assert max(wanted) > 1.0
