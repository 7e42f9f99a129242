# Copyright (c) mvp_mm authors. All rights reserved.
"""A job that a stand-in for Slurm starts again continues exactly what it has saved, and no more."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mvp_mm.cli.actions.train import apply_start
from mvp_mm.engine.restart import JOB_KEY, may_be_restarted, slurm_job
from tests.helpers import ROOT, load_tool
from tests.test_engine.lost_runs import CONFIG
from tests.test_engine.processes import start_clean

SECONDS = 120
# It runs what it is given elsewhere, and ends as that has ended.
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > asked.part
mv asked.part asked
until [ -s status ]; do sleep 0.02; done
exit "$(cat status)"
"""
SCONTROL = '#!/usr/bin/env bash\necho "$@" >> scontrol.log\n'


def train(arguments, **variables):
    """Train in a process of its own; its exit code as a shell tells it, and what it printed."""
    def run():
        file = os.open('printed.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, 'w', buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, 'w', buffering=1, closefd=False)
        for name in [name for name in os.environ if name.startswith('SLURM_')]:
            del os.environ[name]
        os.environ.update(variables)
        sys.argv = ['train', *arguments]
        load_tool('train').main()

    process = start_clean(run)
    process.join(SECONDS)
    process.kill()
    process.join()
    code = process.exitcode
    return code if code >= 0 else 128 - code, Path('printed.txt').read_text()


def submit(*arguments, restarts):
    """Start job 42 as Slurm would; exit codes of the script, and what its run printed."""
    for name in ('asked', 'status'):
        Path(name).unlink(missing_ok=True)
    slurm = dict(SLURM_JOB_ID='42', SLURM_CLUSTER_NAME='c', SLURM_RESTART_COUNT=str(restarts))
    script = subprocess.Popen(
        ['bash', ROOT / 'tools/slurm_train.sh', 'part', 'job', 'toy.py', 'w', *arguments],
        env={**os.environ, **slurm, 'PATH': f'{os.getcwd()}:{os.environ["PATH"]}', 'GRACE': '90'})
    try:
        end = time.monotonic() + SECONDS
        while not Path('asked').exists() and script.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        given = Path('asked').read_text().splitlines()
        assert '--signal=USR1@90' in given
        # Slurm's launcher needs GPUs.
        typed = [word for word in given[given.index('toy.py'):] if word != '--launcher=slurm']
        code, printed = train(typed, **slurm)
        Path('status').write_text(str(code))
        return script.wait(SECONDS), printed
    finally:
        script.kill()
        script.wait()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with stand-ins for Slurm's commands."""
    monkeypatch.chdir(tmp_path)
    for name, content in (('srun', SRUN), ('scontrol', SCONTROL)):
        Path(name).write_text(content)
        Path(name).chmod(0o755)
    return tmp_path


def write_config(signals):
    Path('toy.py').write_text(CONFIG.format(
        root=ROOT, hook=dict(type='SignalHook', signals=signals)))


def state(path):
    checkpoint = torch.load(path, weights_only=False)
    moments = {f'{index}.{key}': value for index, entry in checkpoint['optimizer']['state'].items()
               for key, value in entry.items()}
    return {**checkpoint['state_dict'], **moments}


def test_a_requeued_job_continues_its_own_checkpoints_bit_for_bit(cluster):
    write_config({})
    lr = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5']
    assert train(['toy.py', '--work-dir', 'w', *lr])[0] == 0  # an earlier run in the same folder
    Path('w/iter_9.pth').rename('stage1.pth')
    start = ['--load-from', 'stage1.pth']
    assert train(['toy.py', '--work-dir', 'straight', *start])[0] == 0

    write_config({2: 'SIGKILL', 7: 'SIGUSR1'})
    code, printed = submit(*start, restarts=0)
    assert code == 137 and 'begins anew in w, where an earlier run has saved' in printed
    assert not Path('scontrol.log').exists()  # Slurm itself requeues the job of a lost node
    code, printed = submit(*start, restarts=1)
    assert code == 75 and 'nothing of this job in w: begins as typed' in printed
    assert Path('scontrol.log').read_text() == 'requeue 42\n'
    code, printed = submit(*start, restarts=2)
    assert code == 0 and 'started again, continues from w/iter_8.pth' in printed
    assert Path('scontrol.log').read_text() == 'requeue 42\n'

    expected, found = state('straight/iter_12.pth'), state('w/iter_12.pth')
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.fixture
def job(monkeypatch):
    """Variables of job 42 on its second start."""
    monkeypatch.delenv('TORCHELASTIC_MAX_RESTARTS', raising=False)
    for name, value in (('JOB_ID', '42'), ('CLUSTER_NAME', 'c'), ('RESTART_COUNT', '1')):
        monkeypatch.setenv(f'SLURM_{name}', value)


def save(path, saved_at, job=None):
    meta = dict(iter=1, saved_at=saved_at, **({} if job is None else {JOB_KEY: job}))
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), optimizer={}, meta=meta), path)


@pytest.mark.parametrize('typed', [None, 'given.pth'])
def test_checkpoints_of_other_jobs_are_left_alone(job, tmp_path, typed):
    for number, other in enumerate((None, 'c/41', 'd/42', '42')):
        save(tmp_path / f'iter_{number + 5}.pth', 20.0 + number, other)
    cfg = Config(dict(work_dir=str(tmp_path), load_from='stage1.pth'))
    apply_start(cfg, typed, None)
    assert cfg.load_from == (typed or 'stage1.pth') and bool(cfg.get('resume')) == bool(typed)
    save(tmp_path / 'iter_3.pth', 10.0, slurm_job())
    cfg = Config(dict(work_dir=str(tmp_path), load_from='stage1.pth'))
    apply_start(cfg, typed, None)
    assert cfg.resume and cfg.load_from == str(tmp_path / 'iter_3.pth')


def test_a_job_that_starts_for_the_first_time_begins_as_typed(job, tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_RESTART_COUNT', '0')
    assert not may_be_restarted()
    monkeypatch.delenv('SLURM_RESTART_COUNT')
    save(tmp_path / 'iter_3.pth', 10.0, slurm_job())
    cfg = Config(dict(work_dir=str(tmp_path), load_from='stage1.pth'))
    apply_start(cfg, None, None)
    assert cfg.load_from == 'stage1.pth' and not cfg.get('resume')


def test_torchrun_in_a_requeued_job_continues_what_the_job_has_saved(job, tmp_path, monkeypatch):
    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', '3')
    monkeypatch.setenv('MVP_MM_RENDEZVOUS', f'127.0.0.1:{store.port}')
    save(tmp_path / 'iter_5.pth', 20.0, 'c/41')
    save(tmp_path / 'iter_3.pth', 10.0, slurm_job())  # before torchrun was started anew
    cfg = Config(dict(work_dir=str(tmp_path)))
    apply_start(cfg, None, None)
    assert cfg.load_from == str(tmp_path / 'iter_3.pth')
