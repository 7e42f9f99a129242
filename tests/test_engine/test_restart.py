# Copyright (c) mvp_mm authors. All rights reserved.
"""A job whose ranks or nodes are lost is started again by torchrun and continues exactly."""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.distributed import TCPStore

from mvp_mm.cli.actions.train import apply_start
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.restart import RENDEZVOUS, find_own_checkpoint, may_be_restarted
from tests.helpers import ROOT, load_tool
from tests.test_engine.lost_runs import CONFIG
from tests.test_engine.processes import start_clean

SECONDS = 480


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


class Node:
    """One of two nodes of a job on loopback, with one rank."""

    def __init__(self, rank, port):
        self.rank, self.port = rank, port
        self.log = Path(f'node{rank}.log')
        self.start()

    def start(self):
        environment = dict(
            os.environ, NNODES='2', NODE_RANK=str(self.rank), PORT=self.port, MAX_RESTARTS='3',
            PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
        with open(self.log, 'a') as log:
            self.process = subprocess.Popen(
                ['bash', ROOT / 'tools/dist_train.sh', 'toy.py', '1', '--work-dir', 'lost'],
                env=environment, stdout=log, stderr=log)

    def close(self):
        # torchrun ends its rank when it is told to end.
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def undisturbed(port):
    """Train on two ranks that nobody kills."""
    def train(rank):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
                          LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        sys.argv = ['train', 'toy.py', '--launcher', 'pytorch', '--work-dir', 'straight']
        load_tool('train').main()

    ranks = [start_clean(lambda rank=rank: train(rank)) for rank in range(2)]
    for rank in ranks:
        rank.join(SECONDS)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]


def state(folder):
    checkpoint = torch.load(f'{folder}/iter_12.pth', weights_only=False)
    moments = {f'{index}.{key}': value for index, entry in checkpoint['optimizer']['state'].items()
               for key, value in entry.items()}
    return {**checkpoint['state_dict'], **moments}


def test_a_lost_rank_and_a_lost_node_are_replaced_and_the_run_continues_bit_for_bit(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('toy.py').write_text(CONFIG.format(
        root=ROOT, hook=dict(type='LoseNodeHook', ranks_at=[6], node_at=[11])))
    port = free_port()
    nodes = [Node(rank, port) for rank in range(2)]
    deadline = time.monotonic() + SECONDS
    try:
        while any(node.process.poll() is None for node in nodes) and time.monotonic() < deadline:
            if nodes[1].process.poll() == -signal.SIGKILL:
                nodes[1].start()  # as a scheduler would
            time.sleep(0.2)
        logs = '\n'.join(node.log.read_text() for node in nodes)
        assert [node.process.poll() for node in nodes] == [0, 0], logs[-6000:]
    finally:
        for node in nodes:
            node.close()
    assert 'continues from lost/iter_3.pth' in logs and 'continues from lost/iter_9.pth' in logs
    assert Path('lost_at_6').exists() and Path('lost_at_11').exists()
    undisturbed(free_port())
    expected, found = state('straight'), state('lost')
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.fixture
def launch(monkeypatch):
    """What torchrun tells a rank; its store lives as long as the test."""
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', '3')
    monkeypatch.setenv(RENDEZVOUS, f'127.0.0.1:{store.port}')
    return store


def save(path, saved_at):
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), optimizer={},
                    meta=dict(iter=1, saved_at=saved_at)), path)


def test_a_restart_continues_what_its_own_launch_has_saved_alone(launch, tmp_path):
    assert may_be_restarted()
    save(tmp_path / 'iter_8.pth', 20.0)  # of an earlier run, by a clock that went ahead
    assert find_own_checkpoint(tmp_path) is None
    save(tmp_path / 'iter_2.pth', 10.0)
    assert find_own_checkpoint(tmp_path) == str(tmp_path / 'iter_2.pth')
    save(tmp_path / 'iter_8.pth', 11.0)
    assert find_own_checkpoint(tmp_path) == str(tmp_path / 'iter_8.pth')


def test_without_restarts_nothing_is_looked_for(monkeypatch):
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    monkeypatch.delenv('TORCHELASTIC_MAX_RESTARTS', raising=False)
    assert not may_be_restarted()
    monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', '0')
    assert not may_be_restarted()


def test_restarts_that_would_begin_anew_are_refused(launch, tmp_path, monkeypatch):
    monkeypatch.delenv(RENDEZVOUS)
    cfg = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match='would begin the run anew .* add --resume'):
        apply_start(cfg, None, None)
    apply_start(cfg, 'auto', None)
    assert cfg.resume is False


def test_a_restart_continues_instead_of_starting_from_other_weights(launch, tmp_path):
    first = Config(dict(work_dir=str(tmp_path)))
    apply_start(first, None, 'stage1.pth')
    assert first.load_from == 'stage1.pth' and not first.get('resume')
    save(tmp_path / 'iter_2.pth', 10.0)
    again = Config(dict(work_dir=str(tmp_path)))
    apply_start(again, None, 'stage1.pth')
    assert again.load_from == str(tmp_path / 'iter_2.pth') and again.resume
