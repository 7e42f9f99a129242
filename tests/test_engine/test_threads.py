# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import os

import pytest
import torch
from mmengine.config import Config

from mvp_mm.engine import threads


@pytest.fixture
def machine(monkeypatch):
    """A CPU machine, of which the process may use some cores."""
    chosen = []
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)

    def build(usable):
        monkeypatch.setattr(threads, 'usable_cores', lambda: usable)
        return chosen
    return build


@pytest.mark.parametrize('usable, workers, expected', [(8, 0, 8), (8, 3, 5), (2, 4, 1)])
def test_threads_leave_room_for_data_workers(machine, usable, workers, expected):
    machine(usable)
    assert threads.choose_threads(workers)[0] == expected


def test_a_busy_machine_does_not_change_the_sums_of_a_run(machine, monkeypatch):
    machine(4)
    found = set()
    for load in (0., 3., 40.):
        monkeypatch.setattr(os, 'getloadavg', lambda load=load: (load, load, load))
        found.add(threads.choose_threads(1))
    assert len(found) == 1


def test_a_run_says_how_many_threads_it_takes_and_why(machine, capsys):
    chosen = machine(4)
    cfg = Config(dict(
        train_dataloader=dict(num_workers=1, dataset={}),
        val_dataloader=dict(first=dict(num_workers=2, dataset={}), second=dict(dataset={})),
        test_dataloader=dict(num_workers=3, dataset={})))
    threads.set_threads(cfg, 'train', ('train', 'val'))
    assert chosen == [2]
    assert capsys.readouterr().out == (
        'train: on the CPU with 2 threads (4 cores, 2 for loading data); '
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
