# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import argparse

import pytest
from torch import distributed

from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.launch import config_from_args, leave_processes


def options(tmp_path, **cfg_options):
    path = tmp_path / 'a.py'
    path.write_text("_steps = 5\ntrain_cfg = dict(max_iters=_steps)\n")
    return argparse.Namespace(config=str(path), cfg_options=cfg_options or None, local_rank=0,
                              launcher='none', work_dir=None)


def test_helpers_of_the_files_do_not_reach_the_config(tmp_path):
    cfg = config_from_args(options(tmp_path))
    assert cfg.train_cfg.max_iters == 5 and '_steps' not in cfg


def test_overriding_a_helper_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='_steps: a helper of the config files'):
        config_from_args(options(tmp_path, _steps=7))


def test_a_process_group_is_left_where_there_is_one(tmp_path):
    leave_processes()
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0,
                                   world_size=1)
    leave_processes()
    assert not distributed.is_initialized()
