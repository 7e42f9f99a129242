# Copyright (c) mvp_mm authors. All rights reserved.
"""The tables of docs/paper.md: no empty cell, and nothing named that does not exist."""
from __future__ import annotations

import ast
import re
from dataclasses import fields

import pytest
from mmengine.config import Config

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm import registry
from mvp_mm.engine.config_check import arguments_of
from mvp_mm.structures import Answering
from tests.helpers import ROOT

HEADER = ['the paper (place)', 'here', 'where', 'switch', 'released code']
REGISTRIES = [getattr(registry, name) for name in (
    'MODELS', 'TASKS', 'DATASETS', 'TASK_UTILS', 'TOKENIZERS', 'OPTIM_WRAPPERS', 'LOOPS')]
STAGES = [Config.fromfile(ROOT / f'configs/mvplm/{name}.py') for name in ('stage2', 'stage1')]
# What mmengine takes out of a config before it builds the optimizer wrapper.
OPTIMIZER_KEYS = {'constructor', 'paramwise_cfg'}


def rows():
    """Every row of every table, as lists of cells, without headers and rules."""
    lines = (ROOT / 'docs/paper.md').read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in lines if line.startswith('|')]
    return [row for row in cells if row != HEADER and not re.fullmatch(r'-+', row[0])]


ROWS = rows()


def quoted(cell):
    return re.findall(r'`([^`]+)`', cell)


def names_in(path):
    """Classes, functions and ``Class.method`` that a module defines."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
            found |= {f'{node.name}.{child.name}' for child in getattr(node, 'body', ())
                      if isinstance(child, ast.FunctionDef)}
    return found


def takes(place, key):
    """Whether the component of a config's dict has an argument that the config leaves out."""
    kind = place.get('type')
    built = [r.get(kind) for r in REGISTRIES if isinstance(kind, str) and r.get(kind)]
    return any(key in (arguments_of(component) or ()) for component in built)


def stands_in(cfg, path):
    """Whether a dotted path is in a config, or an argument of the component it leads to."""
    keys = path.split('.')
    place = cfg
    for number, key in enumerate(keys):
        rest = keys[number + 1:]
        if isinstance(place, (list, tuple)):
            if int(key) >= len(place):
                return False
            place = place[int(key)]
        elif key in place:
            place = place[key]
        elif keys[:2] == ['model', 'answering']:
            return rest == [] or set(rest) <= {field.name for field in fields(Answering)}
        else:
            return not rest and (takes(place, key) or (
                keys[0] == 'optim_wrapper' and key in OPTIMIZER_KEYS))
    return True


def test_the_tables_hold_the_paper():
    assert len(ROWS) > 50


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0][:60])
def test_no_cell_is_empty(row):
    assert len(row) == len(HEADER)
    assert all(len(cell) > 1 and cell != '—' for cell in row)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0][:60])
def test_every_place_in_the_code_exists(row):
    places = quoted(row[2])
    assert places
    for place in places:
        path, _, name = place.partition(':')
        assert (ROOT / path).is_file(), place
        assert not name or name in names_in(ROOT / path), place


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0][:60])
def test_every_switch_exists(row):
    if row[3].startswith('none: '):
        assert all((ROOT / name).is_file() for name in quoted(row[3]))
        return
    switches = quoted(row[3])
    assert switches
    for switch in switches:
        path, _, value = switch.partition('=')
        assert any(stands_in(cfg, path) for cfg in STAGES), switch
        if path.endswith('.type') and value:
            assert any(r.get(value) for r in REGISTRIES), switch


@pytest.mark.parametrize('path', ['model.thinkin', 'model.answering.same_io', 'datasets.coco.x',
                                  'model.llm.lora.r', 'optim_wrapper.paramwise'])
def test_a_name_that_does_not_exist_is_noticed(path):
    assert not any(stands_in(cfg, path) for cfg in STAGES)
