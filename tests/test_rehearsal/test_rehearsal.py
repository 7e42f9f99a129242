# Copyright (c) mvp_mm authors. All rights reserved.
"""Every full-size command is typed, in miniature."""
from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mvp_mm.rehearsal import leaves, sizes
from mvp_mm.rehearsal.leaves import CONFIGS, find_leaves
from mvp_mm.rehearsal.plan import phases
from mvp_mm.rehearsal.run import line_of
from mvp_mm.rehearsal.step import Step, type_step
from tests.helpers import ROOT
from tests.test_docs.pages import PAGES, commands

# Documented with a full-size config, and not typed: they need several machines or a GPU.
# In the place of `mvp-mm ask` and the sheet of photographs, demo/image_demo.py is typed: all ask by
# the same class.
NOT_TYPED = {'tools/slurm_train.sh', 'tools/analysis_tools/gpu_figures.sh', 'mvp-mm',
             'tools/analysis_tools/photograph_sheet.py'}
# These measure speed or count operations; they train and answer nothing.
MEASURING = {f'tools/analysis_tools/{name}.py' for name in (
    'benchmark', 'benchmark_criterion', 'benchmark_data', 'benchmark_deform_attention',
    'benchmark_gpu', 'benchmark_inference', 'count_operations', 'estimate_memory', 'get_flops',
    'measure_model', 'measure_recipes')}


@pytest.fixture(scope='module')
def steps():
    return [step for both in phases() for lane in both for step in lane]


def test_the_rehearsal_passes(tmp_path):
    done = subprocess.run(
        [sys.executable, 'tools/rehearse.py', '--place', str(tmp_path / 'place')], cwd=ROOT,
        capture_output=True, text=True, check=False)
    failures = done.stdout.partition(' commands, ')[2]
    assert done.returncode == 0, failures or done.stderr[-2000:]
    assert failures.startswith('0 failed')


@pytest.mark.parametrize('leaf', find_leaves())
def test_every_config_is_typed(steps, leaf):
    scripts = {word for step in steps if leaf in step.configs
               for word in shlex.split(step.command) if word.startswith('tools/')}
    assert scripts & {'tools/train.py', 'tools/dist_train.sh', 'tools/test.py'}


def test_whole_configs_are_found_and_parts_are_not(tmp_path, monkeypatch):
    folder = tmp_path / CONFIGS / 'new'
    folder.mkdir(parents=True)
    (folder / 'leaf.py').write_text("_base_ = './part.py'\ntrain_cfg = dict(max_iters=1)\n")
    (folder / 'part.py').write_text('model = dict()\noptim_wrapper = dict()\n')
    monkeypatch.setattr(leaves, 'shipped_root', lambda: tmp_path)
    assert find_leaves() == [f'{CONFIGS}/new/leaf.py']


def thin_scripts():
    """The script of tools/ that runs the same code, by command of mvp-mm."""
    imported = re.compile(r'^from mvp_mm\.cli\.(?!command)\w+ import (\w+)$', re.MULTILINE)
    return {found[1]: path.relative_to(ROOT).as_posix() for path in ROOT.glob('tools/**/*.py')
            if (found := imported.search(path.read_text(encoding='utf-8')))}


def documented():
    """Scripts and full-size configs that the pages name together."""
    scripts = thin_scripts()
    found = set()
    for page in PAGES:
        for script, words in commands(page.read_text(encoding='utf-8')):
            if script == 'mvp-mm' and words:
                script = next((scripts[word] for word in words[:2] if word in scripts), script)
            found |= {(script, word) for word in words
                      if word.startswith(f'{CONFIGS}/') and word.endswith('.py')
                      and 'tiny' not in word.split('/')
                      and script not in NOT_TYPED | MEASURING}
    return sorted(found)


@pytest.mark.parametrize('script, config', documented())
def test_documented_commands_are_typed(steps, script, config):
    assert any(script in step.command and config in step.configs for step in steps)


def test_commands_run_with_the_small_sizes_and_what_they_say_themselves_wins():
    words = Step('python tools/train.py a.py --cfg-options canvas=(64,64) x=1').words
    options = words[words.index('--cfg-options') + 1:]
    assert f'model.embed_dims={sizes.WIDTH}' in options
    assert options[-2:] == ['canvas=(64,64)', 'x=1']
    assert Step('python tools/train.py a.py --work-dir b', keeps_sizes=True).words[5:] == [
        '--cfg-options', *(f'{key}={value}' for key, value in sizes.TRAIN_OPTIONS.items())]


@pytest.fixture
def place(tmp_path):
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_a_failure_names_command_config_and_reason(place):
    command = f'python tools/train.py {CONFIGS}/ablations/data_c_r.py'
    told = line_of(type_step(Step(command), place))
    assert f'FAILED  {command}' in told and 'exit status 2' in told
    assert 'load_from: no such file or folder: work_dirs/stage1/iter_4650.pth' in told


def test_a_command_in_a_process_of_its_own_fails_likewise(place):
    told = line_of(type_step(Step('python tools/paper_tables.py nowhere', separate=True), place))
    assert 'exit status 1' in told and 'nowhere: no metrics.json' in told


def test_the_cause_is_told_where_a_launcher_reports_behind_it(place):
    (place / 'tools').unlink()
    (place / 'tools').mkdir()
    (place / 'tools/launch.sh').write_text(
        'echo "test: error: no such file: a.pth"; seq 30; exit 3\n')
    told = line_of(type_step(Step('bash tools/launch.sh', separate=True), place))
    assert 'exit status 3' in told and 'test: error: no such file: a.pth' in told


def test_a_command_is_not_run_without_what_earlier_ones_make(place):
    told = line_of(type_step(Step('python tools/train.py a.py', needs=('b.pth', )), place))
    assert 'not run: an earlier command should have made b.pth' in told


def test_the_folder_stays_the_same_after_a_command(place):
    here = Path.cwd()
    outcome = type_step(Step('python tools/misc/print_config.py configs/mvplm/tiny/stage2.py'),
                        place)
    assert not outcome.error and Path.cwd() == here
