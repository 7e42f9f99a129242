# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import os

import pytest
import torch
from mmengine.config import Config

from mvp_mm.engine import threads


@pytest.fixture
def machine(monkeypatch):
    """A CPU machine of given cores, part of which the process may use, and load."""
    chosen = []
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)

    def build(usable, load=0., cores=None):
        monkeypatch.setattr(threads, 'usable_cores', lambda: usable)
        monkeypatch.setattr(os, 'cpu_count', lambda: cores or usable)
        monkeypatch.setattr(os, 'getloadavg', lambda: (load, 9., 9.))
        return chosen
    return build


@pytest.mark.parametrize('usable, cores, load, workers, expected', [
    (8, 8, 0.2, 0, 8), (8, 8, 0.2, 3, 5), (8, 8, 2.4, 3, 3), (2, 2, 1.3, 0, 1), (2, 2, 9., 4, 1),
    (2, 64, 30., 0, 2)])
def test_threads_leave_room_for_data_workers_and_other_work(machine, usable, cores, load, workers,
                                                           expected):
    machine(usable, load, cores)
    assert threads.choose_threads(workers)[0] == expected


def test_a_run_says_how_many_threads_it_takes_and_why(machine, capsys):
    chosen = machine(4, load=1.5)
    cfg = Config(dict(
        train_dataloader=dict(num_workers=1, dataset={}),
        val_dataloader=dict(first=dict(num_workers=2, dataset={}), second=dict(dataset={})),
        test_dataloader=dict(num_workers=3, dataset={})))
    threads.set_threads(cfg, 'train', ('train', 'val'))
    assert chosen == [1]
    assert capsys.readouterr().out == (
        'train: on the CPU with 1 thread (4 cores, 2 for loading data, 1 busy with other work); '
        'OMP_NUM_THREADS sets another number\n')


@pytest.mark.parametrize('decided_by', ['the user', 'a GPU'])
def test_others_may_decide_the_threads(machine, monkeypatch, capsys, decided_by):
    chosen = machine(4)
    if decided_by == 'the user':
        monkeypatch.setenv('OMP_NUM_THREADS', '3')
    else:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    threads.set_threads(Config(dict(test_dataloader=dict(dataset={}))), 'test', ('test',))
    assert not chosen and not capsys.readouterr().out
