# Copyright (c) mvp_mm authors. All rights reserved.
"""Files damaged at random end in a right sample or in an error that names file and record."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.parametrize('module, number', [
    ('tests.test_datasets.fuzz', 400), ('tests.test_evaluation.fuzz', 100)])
def test_damaged_files_are_read_rightly_or_named(module, number):
    # In a process of its own, whose memory is limited and which may be killed.
    run = subprocess.run(
        [sys.executable, '-m', module, '--seed', '0', '--number', str(number)], cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'),
        capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, f'{run.stdout[-500:]}\n{run.stderr[-3000:]}'
    counts = json.loads(run.stdout.splitlines()[-1])
    assert sum(counts.values()) >= number
    assert not [kind for kind in counts if kind.endswith('neither')], run.stdout[-5000:]
