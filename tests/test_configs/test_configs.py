# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest
from mmengine.config import Config

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.engine import check_config, load_config
from tests.helpers import ROOT, save_tokenizer
from tests.test_configs.comparing import CONFIGS, changes, read

ALL = sorted(CONFIGS.rglob('*.py'))
LEAVES = sorted((CONFIGS / 'mvplm').rglob('*.py'))


def depth(path):
    """Levels of files that a config inherits from."""
    bases = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            value = ast.literal_eval(node.value)
            bases = [value] if isinstance(value, str) else value
            # An environment variable may name another base than the default.
            bases = [re.sub(r'\{\{\$\w+:(.*)\}\}', r'\1', base) for base in bases]
    # The parts in _base_ are one level, also where one lists the others.
    levels = [1 if '_base_/' in base else 1 + depth((path.parent / base).resolve())
              for base in bases]
    return max(levels, default=0)


@pytest.mark.parametrize('path', ALL, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_config_parses(path):
    assert Config.fromfile(path).keys()


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_keys_and_types_of_a_leaf_are_known(path, tmp_path):
    cfg = load_config(path, {'load_from': None, 'model.tokenizer.path': str(tmp_path),
                             'model.llm.pretrained': None})
    cfg.model.encoder.backbone.pop('pretrained_path', None)    # written by a command
    check_config(cfg, modes=())


@pytest.mark.parametrize('path', ALL, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_inheritance_is_at_most_three_levels_deep(path):
    grouped = path.parent.name in (
        'ablations', 'eval', 'finetune', 'plus', 'released', 'small', 'tiny')
    assert depth(path) <= (3 if grouped else 2)


ABLATIONS = {
    'coco_refcoco': {'train_cfg.max_iters': 9000},
    'queries_30': {'model.perception.query_generator.num_queries': 30},
    'queries_300': {'model.perception.query_generator.num_queries': 300},
    'learnable_queries': {'model.perception.query_generator.type': 'LearnableQueryGenerator'},
    'visual_queries': {'model.perception.query_generator.type': 'VisualQueryGenerator'},
    'response_none': {'model.thinking': False},
    'response_existing': {},
}


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_one_thing(full, name):
    cfg = read(f'ablations/{name}')
    if name == 'coco_refcoco':
        found = changes(cfg, full['stage2'])
        assert set(found) == {'train_cfg.max_iters', 'train_cfg.val_interval', 'param_scheduler',
                              'train_dataloader.sampler.ratios',
                              'train_dataloader.dataset.datasets'}
        return
    found = changes(cfg, read('ablations/coco_refcoco'))
    settings = {task['response'] for dataset in cfg.train_dataloader.dataset.datasets
                for task in dataset.tasks if 'response' in task}
    if name.startswith('response_'):
        assert settings == {name.removeprefix('response_')}
        assert found.pop('train_dataloader.dataset.datasets')
    assert found == ABLATIONS[name]


@pytest.mark.parametrize('name, shares', [
    ('coco_refcoco', (1 / 2, 1 / 2, 0, 0)), ('data_c_r', (1 / 2, 1 / 2, 0, 0)),
    ('data_c_r_o', (2 / 5, 2 / 5, 1 / 5, 0)), ('data_c_r_o_g', (1 / 3, 1 / 3, 1 / 6, 1 / 6))])
def test_data_mixes_of_the_ablations(name, shares):
    cfg = read(f'ablations/{name}')
    found = dict.fromkeys(('CocoPanopticDataset', 'RefCocoDataset', 'Objects365Dataset',
                           'GroundingDataset'), 0)
    datasets = cfg.train_dataloader.dataset.datasets
    ratios = cfg.train_dataloader.sampler.ratios
    for dataset, ratio in zip(datasets, ratios, strict=True):
        found[dataset.type] += ratio / sum(ratios)
    assert tuple(found.values()) == pytest.approx(shares)
    assert cfg.train_cfg.max_iters == (9000 if name == 'coco_refcoco' else 56000)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_leaf_configs_are_short(path):
    longest = 45 if path.stem == 'stage2' else 40
    assert len(path.read_text().splitlines()) <= longest


@pytest.fixture(scope='module')
def sound_options(tmp_path_factory):
    """Settings with which the tiny stage 1 has every file it needs, without any data."""
    root = tmp_path_factory.mktemp('world')
    tokenizer = save_tokenizer(root / 'tokenizer')
    dataset = read('tiny/stage1').train_dataloader.dataset
    for name in (dataset.ann_file, dataset.caption_store if 'caption_store' in dataset else ''):
        if name:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return {
        'model.tokenizer.path': tokenizer,
        'datasets.syn_captions_train.data_root': str(root),
    }


def test_a_tiny_config_with_its_files_is_sound(sound_options):
    cfg = load_config(CONFIGS / 'mvplm/tiny/stage1.py', sound_options)
    check_config(cfg, modes=('train', 'val'))


@pytest.mark.parametrize('option, named', [
    ('model.perception.num_stuff_query=3',
     "model.perception.num_stuff_query: PerceptionHead takes no 'num_stuff_query'; "
     "did you mean 'num_stuff_queries'?"),
    ('model.connector.type=MLPConector',
     "model.connector.type: 'MLPConector' is in no registry; did you mean 'MLPConnector'?"),
    ('train_dataloader.dataset.ann_file=gone.json',
     'train_dataloader.dataset.ann_file: no such file or folder: '),
], ids=['key', 'type', 'file'])
def test_training_stops_at_a_mistake_and_names_it(sound_options, tmp_path, option, named):
    options = [f'{key}={value}' for key, value in sound_options.items()]
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', CONFIGS / 'mvplm/tiny/stage1.py',
         '--work-dir', tmp_path / 'work', '--cfg-options', *options, option],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 2
    line, = done.stderr.splitlines()
    assert line.startswith('train: error: ') and named in line
    assert not (tmp_path / 'work').exists()
