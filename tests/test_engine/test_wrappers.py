# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import socket

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import distributed

from mvp_mm.engine import wrappers
from mvp_mm.engine.wrappers import MVPDistributedDataParallel, init_cpu_process_group
from tests.test_engine.toys import ToyModel


@pytest.fixture
def one_process(monkeypatch):
    """A gloo process group of this process alone."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    for key, value in dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, LOCAL_WORLD_SIZE=1,
                           MASTER_ADDR='127.0.0.1', MASTER_PORT=port).items():
        monkeypatch.setenv(key, str(value))
    threads = torch.get_num_threads()
    init_cpu_process_group('pytorch')
    yield
    distributed.destroy_process_group()
    torch.set_num_threads(threads)


def test_a_cpu_model_trains_although_the_runner_names_a_device(one_process):
    assert distributed.get_backend() == 'gloo'
    model = ToyModel()
    wrapped = MVPDistributedDataParallel(module=model, device_ids=[0], broadcast_buffers=False)
    before = model.head.weight.clone()
    wrapped.train_step(
        dict(inputs=torch.tensor([1.0, 2.0])),
        OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=0.1)))
    assert wrapped.device_ids is None
    assert not torch.equal(before, model.head.weight)


def test_the_runner_wraps_with_it(one_process, toy_config, make_runner):
    toy_config.launcher = 'pytorch'
    toy_config.model_wrapper_cfg = dict(type='mvp_mm.MVPDistributedDataParallel')
    runner = make_runner(toy_config)
    assert type(runner.model) is MVPDistributedDataParallel
    assert runner.test()['panoptic/toy/count'] == 4


@pytest.mark.parametrize('wanted, expected', [(None, 3), ('1', 3), ('2', 2)])
def test_processes_share_the_cores_unless_the_user_says_otherwise(monkeypatch, wanted, expected):
    chosen = []
    monkeypatch.setattr(distributed, 'init_process_group', lambda **_: None)
    monkeypatch.setattr(distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
    monkeypatch.setattr(wrappers, 'usable_cores', lambda: 6)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if wanted is not None:
        monkeypatch.setenv('OMP_NUM_THREADS', wanted)    # '1': torchrun's own
    init_cpu_process_group('pytorch')
    assert chosen == [expected]


def test_other_launchers_need_cuda():
    with pytest.raises(ValueError, match='--launcher slurm needs CUDA'):
        init_cpu_process_group('slurm')
