# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import re
from pathlib import Path

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
