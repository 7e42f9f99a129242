# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mvp_mm.utils import cores


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of made-up files on a machine with eight cores."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    monkeypatch.setattr(cores, '_CONTROL_GROUPS', tmp_path / 'groups')
    monkeypatch.setattr(cores, '_MEMBERSHIP', tmp_path / 'membership')

    def write(membership, **files):
        (tmp_path / 'membership').write_text(membership)
        for name, content in files.items():
            path = tmp_path / 'groups' / name.replace('__', '/').replace('_dot_', '.')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return write


@pytest.mark.parametrize('text, threads', [
    ('3', 3), ('4,2', 4), (' 2 ', 2), ('', None), ('0', None), ('many', None), ('²', None)])
def test_the_users_number_of_threads_is_read(text, threads, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', text)
    assert cores.wanted_threads() == threads


def test_without_control_groups_the_affinity_counts(groups):
    assert cores.usable_cores() == 8


@pytest.mark.parametrize('limit, expected', [
    ('max 100000', 8), ('200000 100000', 2), ('50000 100000', 1), ('nonsense', 8)])
def test_the_quota_of_a_container_bounds_the_cores(groups, limit, expected):
    groups('0::/\n', cpu_dot_max=limit)
    assert cores.usable_cores() == expected


def test_the_quota_of_an_outer_group_bounds_the_cores(groups):
    groups('0::/outer/inner\n', outer__inner__cpu_dot_max='max 100000',
           outer__cpu_dot_max='300000 100000')
    assert cores.usable_cores() == 3


def test_quotas_of_the_first_version_are_read(groups):
    groups('4:memory:/job\n3:cpu,cpuacct:/job\n', **{
        'cpu__job__cpu_dot_cfs_quota_us': '400000\n',
        'cpu__job__cpu_dot_cfs_period_us': '100000\n',
        'cpu__cpu_dot_cfs_quota_us': '-1\n', 'cpu__cpu_dot_cfs_period_us': '100000\n'})
    assert cores.usable_cores() == 4


@pytest.mark.parametrize('given, expected', [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(given, expected):
    environment = {key: value for key, value in os.environ.items() if key != 'OMP_WAIT_POLICY'}
    if given:
        environment['OMP_WAIT_POLICY'] = given
    code = ("import sys, os, mvp_mm; assert 'torch' not in sys.modules; "
            "print(os.environ['OMP_WAIT_POLICY'])")
    done = subprocess.run([sys.executable, '-c', code], env=environment, check=True,
                          capture_output=True, text=True)
    assert done.stdout.strip() == expected
