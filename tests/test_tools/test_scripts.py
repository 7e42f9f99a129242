# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mvp_mm.cli.actions.test import draw_predictions, save_predictions
from mvp_mm.cli.actions.train import apply_start
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils import atomic
from tests.helpers import load_tool

ROOT = Path(__file__).parents[2]
SHELL_SCRIPTS = sorted([*ROOT.glob('tools/*.sh'), ROOT / '.ci' / 'run'])

TOY_CONFIG = """
_base_ = '{runtime}'
custom_imports = dict(imports=['tests.test_engine.toys'])
_loader = dict(
    batch_size=2, dataset=dict(type='ToyDataset'), collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=2, dataset=dict(type='ToyDataset'), collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    checkpoint=dict(interval=2), handover=dict(allow_frozen_random_init=['encoder']))
test_dataloader = dict(panoptic=_loader, refcoco=_loader)
test_evaluator = dict(panoptic=[dict(type='ToyMetric')], refcoco=[dict(type='ToyMetric')])
test_cfg = dict(type='MultiTestLoop')
"""


@pytest.fixture
def run_tool(monkeypatch, tmp_path):
    """Run a command of tools/ in this process, inside an empty folder."""
    forget_runs()
    monkeypatch.chdir(tmp_path)
    runtime = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    Path('toy.py').write_text(TOY_CONFIG.format(runtime=runtime))

    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *args])
        load_tool(name).main()

    yield run
    forget_runs()


@pytest.mark.parametrize('script', SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_and_are_executable(script):
    subprocess.run(['bash', '-n', script], check=True)
    assert script.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize('script, usage', [
    ('dist_train.sh', 'CONFIG GPUS'), ('dist_test.sh', 'CONFIG CHECKPOINT GPUS'),
    ('slurm_train.sh', 'PARTITION JOB_NAME CONFIG WORK_DIR')])
def test_launchers_explain_their_arguments(script, usage):
    done = subprocess.run(
        ['bash', ROOT / 'tools' / script, 'config.py'], capture_output=True, text=True)
    assert done.returncode == 2
    assert usage in done.stderr


@pytest.fixture
def printed_by_python(tmp_path):
    """Run a script with a ``python`` that prints its arguments; its lines."""
    fake = tmp_path / 'python'
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)

    def run(script, *args, **variables):
        env = {key: value for key, value in os.environ.items()
               if key not in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'MAX_RESTARTS')}
        env.update(variables, PATH=f'{tmp_path}:{os.environ["PATH"]}')
        return subprocess.run(['bash', ROOT / 'tools' / script, *args], env=env, check=True,
                              capture_output=True, text=True).stdout.splitlines()

    return run


@pytest.mark.parametrize('script, args, expected', [
    ('dist_train.sh', ['c.py', '2', '--amp', '--work-dir', 'w d'],
     ['train.py', 'c.py', '--launcher', 'pytorch', '--amp', '--work-dir', 'w d']),
    ('dist_test.sh', ['c.py', 'k.pth', '2', '--out', 'o'],
     ['test.py', 'c.py', 'k.pth', '--launcher', 'pytorch', '--out', 'o']),
])
def test_launchers_pass_the_job_to_torchrun(printed_by_python, script, args, expected):
    done = printed_by_python(script, *args, NNODES='3', NODE_RANK='1', PORT='1234',
                             MASTER_ADDR='head')
    assert done[:7] == ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--nnodes=3',
                        '--node_rank=1', '--master_addr=head', '--master_port=1234']
    assert [Path(done[7]).name, *done[8:]] == expected


def test_one_node_needs_no_agreed_port(printed_by_python):
    done = printed_by_python('dist_train.sh', 'c.py', '2')
    assert done[2:4] == ['--nproc_per_node=2', '--standalone']


@pytest.mark.parametrize('rank, host', [('0', 'true'), ('1', 'false')])
def test_nodes_that_may_restart_meet_at_node_0(printed_by_python, rank, host):
    done = printed_by_python('dist_train.sh', 'c.py', '2', NNODES='2', NODE_RANK=rank,
                             MASTER_ADDR='head', PORT='1234', MAX_RESTARTS='5')
    assert done[3:9] == ['--nnodes=2', '--rdzv-backend=c10d', '--rdzv-endpoint=head:1234',
                         '--rdzv-id=mvp_mm', f'--rdzv-conf=is_host={host},read_timeout=300',
                         '--max-restarts=5']


@pytest.mark.parametrize('gpus, per_node', [('4', '4'), ('16', '8')])
def test_slurm_gets_a_task_a_gpu(tmp_path, gpus, per_node):
    fake = tmp_path / 'srun'
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    env = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': gpus,
           'SRUN_ARGS': '--qos=a --quiet'}
    done = subprocess.run(
        ['bash', ROOT / 'tools' / 'slurm_train.sh', 'part', 'job', 'c.py', 'w d', '--amp'],
        env=env, check=True, capture_output=True, text=True).stdout.splitlines()
    assert done[:5] == ['--partition=part', '--job-name=job', f'--gres=gpu:{per_node}',
                        f'--ntasks={gpus}', f'--ntasks-per-node={per_node}']
    assert '--qos=a' in done and '--quiet' in done
    assert done[-4:] == ['c.py', '--work-dir=w d', '--launcher=slurm', '--amp']


@pytest.mark.parametrize('version, message', [
    ('3.9.18', 'Python 3.9.18 (.*) is not supported'),
    ('3.13.0', 'Python 3.13.0 (.*) is not supported'),
    ('', 'cannot run'),
])
def test_setup_refuses_other_pythons(tmp_path, version, message):
    fake = tmp_path / 'python'
    fake.write_text(f'#!/usr/bin/env bash\necho {version}\n' if version else 'exit 1\n')
    fake.chmod(0o755 if version else 0o644)
    done = subprocess.run(['bash', ROOT / 'tools' / 'setup_env.sh'], capture_output=True, text=True,
                          env={**os.environ, 'PYTHON': str(fake)})
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('setup_env: error: ')
    assert 'set PYTHON to' in lines[0]
    assert re.search(message, lines[0])


def test_train_resume_and_test(run_tool, capsys):
    run_tool('train', 'toy.py', '--resume', '--cfg-options', 'train_cfg.max_iters=2')
    assert 'no checkpoint in work_dirs/toy, starting from the beginning' in capsys.readouterr().out
    assert Path('work_dirs/toy/last_checkpoint').read_text().endswith('iter_2.pth')
    assert list(Path('work_dirs/toy').glob('*/vis_data/config.py'))
    assert 'System environment' in next(Path('work_dirs/toy').glob('*/*.log')).read_text()

    run_tool('train', 'toy.py', '--resume', 'auto')
    assert 'resumed epoch: 0, iter: 2' in capsys.readouterr().out
    assert Path('work_dirs/toy/iter_4.pth').is_file()

    run_tool('test', 'toy.py', 'work_dirs/toy/iter_4.pth')
    metrics = json.loads(Path('work_dirs/toy/metrics.json').read_text())
    assert metrics['refcoco/toy/count'] == 4


def test_a_full_disk_leaves_no_metrics_that_block_the_next_test(run_tool, monkeypatch, capsys):
    run_tool('train', 'toy.py')
    replace = os.replace

    def full(source, target):
        if str(target).endswith('metrics.json'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(atomic.os, 'replace', full)
    with pytest.raises(SystemExit, match='1'):
        run_tool('test', 'toy.py', 'work_dirs/toy/iter_4.pth')
    assert re.search(r'test: error: cannot write .*metrics\.json: No space left on device',
                     capsys.readouterr().err)
    assert not Path('work_dirs/toy/metrics.json').exists()
    monkeypatch.setattr(atomic.os, 'replace', replace)
    run_tool('test', 'toy.py', 'work_dirs/toy/iter_4.pth')
    assert json.loads(Path('work_dirs/toy/metrics.json').read_text())


def test_load_from_starts_a_new_run(run_tool, capsys):
    run_tool('train', 'toy.py', '--work-dir', 'one')
    run_tool('train', 'toy.py', '--work-dir', 'two', '--load-from', 'one/iter_4.pth')
    out = capsys.readouterr().out
    assert 'from the checkpoint: encoder (2), head (2)' in out
    assert Path('two/iter_4.pth').is_file()


@pytest.mark.parametrize('tool, args, message', [
    ('train', ['nowhere.py'], 'train: error: config not found: nowhere.py'),
    ('train', ['toy.py', '--load-from', 'no.pth'], '--load-from: no such file or folder: no.pth'),
    ('train', ['toy.py', '--cfg-options', 'modle.width=3'], "unknown top-level key 'modle'"),
    ('train', ['toy.py', '--amp'], '--amp: float16 with a scaled loss needs a GPU'),
    ('test', ['toy.py', 'no.pth'], 'CHECKPOINT: no such file or folder: no.pth'),
    ('test', ['toy.py', 'toy.py', '--out', 'toy.py'], '--out toy.py exists and is not an'),
])
def test_bad_input_ends_in_one_error(run_tool, capsys, tool, args, message):
    with pytest.raises(SystemExit) as stopped:
        run_tool(tool, *args)
    assert stopped.value.code == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'{tool}: error: ') and message in line


def test_resume_auto_keeps_load_from_when_there_is_nothing_to_resume(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='stage1.pth'))
    apply_start(cfg, resume='auto', load_from=None)
    assert cfg.load_from == 'stage1.pth' and not cfg.get('resume')


def test_show_dir_draws_every_sample():
    cfg = Config(dict(default_hooks=dict(visualization=dict(
        type='PerceptionVisualizationHook', interval=50, score_thr=0.5))))
    draw_predictions(cfg, 'here')
    assert cfg.default_hooks.visualization == dict(
        type='PerceptionVisualizationHook', interval=1, score_thr=0.5, out_dir='here')


def test_out_of_a_single_data_set_is_the_folder_itself(tmp_path):
    loader = dict(dataset=dict(type='ToyDataset', data_root='data', ann_file='a.json'))
    cfg = Config(dict(test_evaluator=dict(type='ToyMetric'), test_dataloader=loader))
    save_predictions(cfg, str(tmp_path))
    assert cfg.test_evaluator[0] == dict(
        type='PredictionWriter', out_dir=str(tmp_path), ann_file='data/a.json')


def test_out_has_a_folder_for_each_of_several_data_sets(tmp_path):
    cfg = Config(dict(
        test_evaluator=dict(a=[dict(type='ToyMetric')], b=dict(type='ToyMetric')),
        test_dataloader={name: dict(dataset=dict(type='ToyDataset')) for name in 'ab'}))
    save_predictions(cfg, str(tmp_path))
    assert [cfg.test_evaluator[name][0].out_dir for name in 'ab'] == [
        str(tmp_path / 'a'), str(tmp_path / 'b')]
    assert [len(cfg.test_evaluator[name]) for name in 'ab'] == [2, 2]
