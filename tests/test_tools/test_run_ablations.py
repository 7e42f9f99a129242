# Copyright (c) mvp_mm authors. All rights reserved.
"""The ablation suite on a miniature world: two steps, then figures, a plot and a page."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mvp_mm.synthetic import WorldParameters, make_world
from tests.helpers import ROOT, save_tokenizer
from tests.tool_runs import run_tool

TOOL = 'tools/analysis_tools/run_ablations.py'
SUITE = dict(
    config=str(ROOT / 'configs/mvplm/tiny/stage2.py'),
    datasets=['refcoco'], columns={'RES cIoU': 'refcoco/referring/cIoU'},
    options={
        'train_dataloader.batch_size': 1, 'model.max_response_tokens': 8,
        'model.encoder.backbone.window_size': 2, 'model.perception.decoder.num_layers': 1,
        'train_dataloader.mix.syn_objects365_train': 0,
        'train_dataloader.mix.syn_goldg_train': 0},
    recipes=dict(
        few={'options': {'model.perception.query_generator.num_queries': 8}, 'variant': 'direct'},
        broken={'options': {'model.embed_dims': 95}}),
    tables=dict(queries=dict(title='Queries', rows={'8': 'few', 'none': 'broken'})))


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with a world, a tokenizer, a recipe file and a page."""
    root = tmp_path_factory.mktemp('ablations')
    make_world(root / 'data/synthetic', WorldParameters(seed=5, train=4, val=2))
    save_tokenizer(root / 'data/synthetic/tokenizer')
    (root / 'recipes.yml').write_text(yaml.safe_dump(SUITE))
    (root / 'page.md').write_text('# Page\n<!-- ablations -->\n<!-- end ablations -->\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv('PYTHONPATH', str(ROOT))
        yield root


def suite(*options):
    return run_tool(TOOL, '--recipe-file', 'recipes.yml', '--work-dir', 'work', '--steps', 2,
                    '--images', 2, '--seeds', 4, *options)


def test_the_commands_are_shown_with_an_estimate_and_nothing_runs(place, capsys):
    assert suite('--dry-run') == 0
    out = capsys.readouterr().out
    assert out.count('tools/train.py') == out.count('measure_model.py') == 2
    assert '2 runs, 0 finished; about 0.0 h' in out and not (place / 'work').exists()


def test_a_run_is_resumed_measured_and_written_once(place, capsys):
    written = ('--out', 'results.json', '--plot', 'plot.png', '--page', 'page.md')
    assert suite('--recipes', 'few', *written) == 0
    folder = place / 'work/few_s4'
    log = (folder / 'log.txt').read_text()
    figures = json.loads((place / 'results.json').read_text())['figures']['few']
    assert figures['seeds'] == [4] and set(figures['mean']) == {'refcoco/referring/cIoU'}
    text = (place / 'page.md').read_text()
    assert f'| 8 | {figures["mean"]["refcoco/referring/cIoU"]:.1f} | 4 |' in text
    assert '| none | not measured |  |' in text and (place / 'plot.png').stat().st_size > 1000

    assert suite('--recipes', 'few', *written) == 0    # finished: nothing is repeated
    assert (folder / 'log.txt').read_text() == log and (place / 'page.md').read_text() == text

    # As if it had been killed in the second step.
    (folder / 'iter_2.pth').unlink()
    (folder / 'last_checkpoint').unlink()
    (folder / 'result.json').unlink()
    assert suite('--recipes', 'few', *written) == 0
    assert 'iter_1.pth' in (folder / 'log.txt').read_text()[len(log):]
    assert json.loads((place / 'results.json').read_text())['figures']['few'] == figures


def test_a_run_that_fails_is_named_with_its_log(place, capsys):
    message = suite('--recipes', 'broken')
    assert '1 of 1 runs failed: broken_s4' in message
    assert 'broken_s4: failed, see work/broken_s4/log.txt' in capsys.readouterr().out
    assert 'embed_dims' in (place / 'work/broken_s4/log.txt').read_text()
    shutil.rmtree(place / 'work/broken_s4')


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='needs the process table of Linux')
def test_a_suite_that_is_terminated_leaves_no_run_behind(place):
    suite = subprocess.Popen([
        sys.executable, ROOT / TOOL, '--recipe-file', 'recipes.yml', '--recipes', 'few',
        '--work-dir', 'ended', '--steps', '100000', '--seeds', '0'])
    table = Path(f'/proc/{suite.pid}/task/{suite.pid}/children')
    children: list[str] = []
    for _ in range(600):
        children = table.read_text().split()
        if children:
            break
        time.sleep(0.1)
    suite.terminate()
    assert suite.wait(60) != 0 and children
    assert not [child for child in children if Path(f'/proc/{child}').exists()]
