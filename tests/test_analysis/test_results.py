# Copyright (c) mvp_mm authors. All rights reserved.
"""Figures go from commands to files and from files to pages."""
from __future__ import annotations

import json

import numpy as np
import pytest
from mmengine.config import Config

from mvp_mm.analysis.result_blocks import fill_in, result_files
from mvp_mm.analysis.results import config_hash, file_hash, write_result
from tests.helpers import ROOT
from tests.test_docs.pages import PAGES, name_of
from tests.tool_runs import run_tool

PAGE = """# Page
<!-- figures results/a.json
| PQ | {thinking/panoptic/panoptic/PQ} | {thinking/panoptic/panoptic/PQ:.2f} |
-->
<!-- end figures -->
Taken on <!-- figures results/a.json
{.hardware/cores} cores, seeds {.seeds}
-->
<!-- end figures --> together.
"""


@pytest.fixture
def folder(tmp_path):
    write_result(tmp_path / 'results/a.json',
                 dict(thinking=dict(panoptic={'panoptic/PQ': np.float64(84.123456)})), seeds=[0, 1])
    return tmp_path


def test_a_file_says_what_made_its_figures(tmp_path):
    weights = tmp_path / 'model.pth'
    weights.write_bytes(b'weights')
    config = Config(dict(model=dict(type='MVPLM')))
    write_result(tmp_path / 'a.json', dict(x=1.0), config=config, weights=weights, seeds=[3],
                 settings=dict(images=2), seconds=1.6)
    found = json.loads((tmp_path / 'a.json').read_text())
    assert found['config']['sha256'] == config_hash(config)
    assert found['weights'] == dict(file='model.pth', sha256=file_hash(weights))
    assert found['seeds'] == [3] and found['settings'] == dict(images=2) and found['seconds'] == 2
    assert found['hardware']['cores'] > 0 and found['command'].startswith('python ')
    assert {'commit', 'changed', 'version'} <= found.keys() and found['figures'] == dict(x=1.0)


def test_the_hash_of_a_config_is_of_what_it_says():
    one, same, other = (Config(dict(a=dict(b=x), c=2)) for x in (1, 1, 2))
    assert config_hash(one) == config_hash(same) != config_hash(other)


def test_a_page_takes_its_figures_from_the_file(folder):
    filled = fill_in(PAGE, folder)
    assert '\n| PQ | 84.1 | 84.12 |\n' in filled and 'seeds 0, 1\n' in filled
    assert fill_in(filled, folder) == filled
    assert list(result_files(filled)) == ['results/a.json'] * 2


def test_a_figure_that_was_typed_by_hand_is_found(folder):
    page = folder / 'page.md'
    page.write_text(fill_in(PAGE, folder))
    tool = 'tools/analysis_tools/fill_in_results.py'
    assert run_tool(tool, page, '--root', folder, '--check') == 0
    page.write_text(page.read_text().replace('| 84.12 |', '| 85.12 |'))
    assert f'{page}: the text differs' in run_tool(tool, page, '--root', folder, '--check')
    assert run_tool(tool, page, '--root', folder) == 0
    assert run_tool(tool, page, '--root', folder, '--check') == 0


@pytest.mark.parametrize('name, error, message', [
    ('thinking/panoptic/panoptic/SQ', KeyError, 'no figure'),
    ('thinking/panoptic', KeyError, 'no figure')])
def test_a_figure_that_is_not_there_is_an_error_with_the_file(folder, name, error, message):
    with pytest.raises(error, match=message) as caught:
        fill_in(PAGE.replace('{thinking/panoptic/panoptic/PQ}', f'{{{name}}}'), folder)
    assert 'a.json' in str(caught.value)


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_the_figures_of_a_page_are_those_of_its_files(page):
    text = page.read_text(encoding='utf-8')
    assert fill_in(text, ROOT) == text
