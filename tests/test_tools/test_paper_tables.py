# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import sys

import pytest

from mvp_mm.engine import load_config
from tests.helpers import ROOT, load_tool

TOOL = load_tool('paper_tables')


def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


@pytest.fixture
def tables(monkeypatch, capsys):
    """Run the command; return the lines of each table as lists of cells."""
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['paper_tables', *map(str, args)])
        TOOL.main()
        parts = capsys.readouterr().out.split('### Table ')[1:]
        return {int(part[0]): [cells(line) for line in part.splitlines() if line.startswith('|')]
                for part in parts}
    return run


def work_dir(path, **metrics):
    path.mkdir()
    (path / 'metrics.json').write_text(json.dumps(metrics))
    return path


def test_the_papers_own_rows(tables, tmp_path):
    found = tables(work_dir(tmp_path / 'a'))
    own = {number: ' '.join(next(row for row in rows if row[0] == 'MVP-LM')[2:])
           for number, rows in found.items()}
    assert own == {
        3: '56.1 66.8 19.4 20.5 35.3 44.1 85.7',
        4: '83.6 85.1 82.5 73.9 76.8 65.4 75.1 75.6 37.6 50.4 49.9',
        5: '93.5 94.5 91.6 84.9 88.8 79.3 86.7 87.4'}
    assert [len(rows) for rows in found.values()] == [2 + 11 + 1, 2 + 11 + 1, 2 + 5 + 1]


def test_table_4_says_that_the_published_protocol_is_unknown():
    texts = {number: TOOL.render(table, {}) for number, table in TOOL.TABLES.items()}
    assert [n for n, text in texts.items() if 'does not say whether its row asks' in text] == [4]


def test_every_row_has_a_cell_for_every_column(tables, tmp_path):
    for rows in tables(work_dir(tmp_path / 'a')).values():
        assert len({len(row) for row in rows}) == 1


def test_figures_stand_in_their_columns_and_others_stay_empty(tables, tmp_path):
    found = tables(work_dir(tmp_path / 'a', **{
        'ade20k/panoptic/PQ': 12.345, 'grefcoco_testB/generalized/cIoU': 40.0,
        'refcocog_test/referring/REC': 0.04}))
    ours = {number: rows[-1] for number, rows in found.items()}
    assert ours[3] == ['**ours**', '', '', '', '12.3', '', '', '', '']
    assert ours[4] == ['**ours**', '', *[''] * 10, '40.0']
    assert ours[5] == ['**ours**', '', *[''] * 7, '0.0']
    assert found[3][0][4] == 'ADE PQ' and found[4][0][12] == 'testB'


def test_the_joined_protocol_has_a_row_of_its_own(tables, tmp_path):
    found = tables(work_dir(tmp_path / 'a', **{
        'refcoco_val/referring/cIoU': 50.0, 'refcoco_val_joined/referring/cIoU': 60.0}))
    assert [row[:3] for row in found[4][-2:]] == [
        ['**ours**', '', '50.0'], ['**ours**, sentences joined', '', '60.0']]
    assert found[5][-1][0] == '**ours**'


def test_folders_are_one_model_or_stand_apart(tables, tmp_path):
    one = work_dir(tmp_path / 'one', **{'ade20k/panoptic/PQ': 1.0})
    two = work_dir(tmp_path / 'two', **{'cityscapes/panoptic/PQ': 2.0})
    assert tables(one, two, '--tables', 3)[3][-1] == [
        '**ours**', '', '', '', '1.0', '', '2.0', '', '']
    apart = tables(one, two, '--apart', '--tables', 3)[3][-2:]
    assert [(row[0], row[4], row[6]) for row in apart] == [
        ('**one**', '1.0', ''), ('**two**', '', '2.0')]


def test_every_key_is_one_that_the_benchmarks_report():
    cfg = load_config(ROOT / 'configs/mvplm/eval/all.py')
    prefixes = {'PanopticQualityMetric': 'panoptic', 'SemanticIoUMetric': 'semantic',
                'ReferringMetric': 'referring', 'GeneralizedReferringMetric': 'generalized'}
    reported = {f'{name}/{prefixes[metric.type]}' for name, metrics in cfg.test_evaluator.items()
                for metric in metrics if metric.type in prefixes}
    keys = {key for table in TOOL.TABLES.values()
            for key in [*(key for _, key in table.columns), *table.joined] if key}
    assert {key.rsplit('/', 1)[0] for key in keys} <= reported


@pytest.mark.parametrize('content, message', [
    (None, 'no metrics.json'), ('{', 'is not JSON'), ('[1]', 'holds a list'),
    ('{"a/b": NaN}', 'a/b is nan')])
def test_what_cannot_be_read_is_named(tables, tmp_path, content, message):
    if content is not None:
        (tmp_path / 'metrics.json').write_text(content)
    with pytest.raises(SystemExit, match=message):
        tables(tmp_path)


def test_folders_that_disagree_are_refused(tables, tmp_path):
    one = work_dir(tmp_path / 'one', **{'ade20k/panoptic/PQ': 1.0})
    two = work_dir(tmp_path / 'two', **{'ade20k/panoptic/PQ': 2.0})
    with pytest.raises(SystemExit, match='one and .*two disagree about ade20k/panoptic/PQ'):
        tables(one, two)


def test_a_table_without_a_figure_of_ours_is_said(tmp_path, monkeypatch, capsys):
    folder = work_dir(tmp_path / 'a', **{'ade20k/panoptic/PQ': 12.3})
    monkeypatch.setattr(sys, 'argv', ['paper_tables', str(folder)])
    TOOL.main()
    assert [line.split(' has')[0] for line in capsys.readouterr().err.splitlines()] == [
        'paper_tables: note: table 4', 'paper_tables: note: table 5']
