# Copyright (c) mvp_mm authors. All rights reserved.
"""The set-up script with a Python that installs nothing: what it says, and how it fails."""
from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.helpers import ROOT

# Talks as pip does; fails, as a full disk makes it fail, at the arguments in $FAIL_AT.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *'-m venv'*) mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python" ;;
    *'-m pip install'*)
        for number in {1..300}; do echo "Collecting package$number"; done
        echo 'WARNING: Running pip as root' >&2
        if [ -n "$FAIL_AT" ] && [[ "$*" == *"$FAIL_AT"* ]]; then
            echo "ERROR: $FAILURE" >&2
            exit 1
        fi ;;
    *'sys.version_info[:3]'*) echo 3.11.9 ;;
    *cp%d%d*) echo cp311 ;;
    *'-m mvp_mm.ops.cpu_kernel'*) echo 'ninja: lots of work' ;;
    *--version*) echo 'Python 3.11.9' ;;
esac
"""
DISK = """#!/usr/bin/env bash
free=$ROOT_FREE disk=/dev/root
if [ "${@: -1}" = "$TMPDIR" ]; then free=$TEMPORARY_FREE disk=$TEMPORARY_DISK; fi
echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'
echo "$disk 99999999 1 $((free * 1048576)) 1% /"
"""


@pytest.fixture
def set_up(tmp_path):
    """Run the script in a clone of its own, on disks with so many GB."""
    clone, tools = tmp_path / 'clone', tmp_path / 'bin'
    for name in ('requirements', 'mvp_mm/ops/csrc'):
        shutil.copytree(ROOT / name, clone / name)
    for name in ('pyproject.toml', 'setup.py', 'tools/setup_env.sh'):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    for name, text in (('python3', PYTHON), ('df', DISK)):
        tools.mkdir(exist_ok=True)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    pin = re.search(r'^onedl-mmcv==(.*)$', (ROOT / 'requirements/mmcv.txt').read_text(), re.M)[1]
    wheels, temporary = tmp_path / 'wheels', tmp_path / 'temporary'
    wheels.mkdir()
    temporary.mkdir()
    (wheels / f'onedl_mmcv-{pin}-cp311-cp311-linux_x86_64.whl').touch()

    def run(disk=50, temporary_disk=None, fail_at='', failure='no such package'):
        environment = {
            **os.environ, 'PATH': f'{tools}:{os.environ["PATH"]}', 'PYTHON': 'python3',
            'MVP_MM_WHEELHOUSE': str(wheels), 'TMPDIR': str(temporary), 'FAIL_AT': fail_at,
            'FAILURE': failure, 'ROOT_FREE': str(disk),
            'TEMPORARY_FREE': str(disk if temporary_disk is None else temporary_disk),
            'TEMPORARY_DISK': '/dev/root' if temporary_disk is None else '/dev/other'}
        done = subprocess.run(['bash', clone / 'tools/setup_env.sh'], capture_output=True,
                              text=True, env=environment)
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    run.clone = clone
    return run


def test_set_up_says_one_line_per_step_and_the_rest_to_its_log(set_up):
    status, said, errors = set_up()
    assert status == 0 and errors == []
    assert all(line.startswith('setup_env: ') for line in said)
    assert 6 <= len(said) <= 12 and said[-1].startswith('setup_env: done: Python 3.11.9')
    log = (set_up.clone / 'work_dirs/setup_env.log').read_text()
    assert log.count('Collecting package300') >= 5 and 'Running pip as root' in log


def test_a_failed_installation_ends_with_what_was_said_last(set_up):
    status, _, errors = set_up(fail_at='torch.txt')
    assert status == 1
    assert errors[-2] == 'ERROR: no such package' and len(errors) == 16
    assert re.fullmatch(r'setup_env: error: pip cannot install -r requirements/torch\.txt ; the '
                        r'lines above are the last of .*/work_dirs/setup_env\.log', errors[-1])


def test_a_disk_that_fills_up_is_said_in_one_line_with_what_is_needed_and_free(set_up):
    status, _, errors = set_up(
        disk=12, fail_at='runtime.txt',
        failure='Could not install packages: [Errno 28] No space left on device')
    assert status == 1 and len(errors) == 1
    assert 'no space left on device' in errors[0]
    assert '7.3 GB in' in errors[0] and 'free are 12.0 GB and 12.0 GB' in errors[0]


@pytest.mark.parametrize('disk, temporary_disk, told', [
    (8, None, r'need 10\.3 GB on the disk of .*, free are 8\.0 GB'),
    (5, 9, r'need 7\.3 GB on the disk of .*, free are 5\.0 GB'),
    (9, 1, r'pip needs 2\.9 GB in .*, free are 1\.0 GB; make room, or set TMPDIR')])
def test_too_small_a_disk_is_refused_before_anything_is_installed(set_up, disk, temporary_disk,
                                                                  told):
    status, said, errors = set_up(disk, temporary_disk)
    assert status == 1 and said == [] and len(errors) == 1
    assert re.search(told, errors[0])
    assert not (set_up.clone / '.venv').exists()


def test_a_run_that_failed_is_started_afresh_and_a_finished_one_kept(set_up):
    set_up(fail_at='runtime.txt')
    status, said, _ = set_up()
    assert status == 0 and 'the last run did not finish' in said[0]
    assert set_up()[1] == ['setup_env: .venv is up to date']
