# Copyright (c) mvp_mm authors. All rights reserved.
"""Settings are written once and reach training, tests and inferencer, from leaf or command line."""
from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from transformers import AutoConfig, AutoModelForCausalLM

from mvp_mm.engine import ConfigError, check_config, load_config, load_datasets
from mvp_mm.registry import MODELS, TRANSFORMS
from tests.helpers import ROOT, save_tokenizer

CONFIGS = ROOT / 'configs/mvplm'
SIZES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
             vocab_size=450)
CONTEXTS = dict(qwen2=4096, llama=1024, phi=512)


@pytest.fixture(scope='module')
def llms(tmp_path_factory):
    """A folder of random weights with a tokenizer for each family."""
    folders = {}
    for family, context in CONTEXTS.items():
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        sizes = dict(SIZES, max_position_embeddings=context)
        AutoModelForCausalLM.from_config(
            AutoConfig.for_model(family, **sizes)).save_pretrained(folder)
        folders[family] = save_tokenizer(folder)
    return folders


def load_leaf(folder, text, base='stage2.py', **options):
    path = folder / 'leaf.py'
    path.write_text(f"_base_ = '{CONFIGS / base}'\n{text}\n")
    return load_config(path, options)


def steps_of(cfg):
    """Every pipeline's steps: of training, of every test set, of the inferencer."""
    loaders = [cfg.train_dataloader, *cfg.test_dataloader.values()]
    datasets = [one for loader in loaders
                for one in loader.dataset.get('datasets', [loader.dataset])]
    return [step for pipeline in (*(one.pipeline for one in datasets), cfg.inferencer.pipeline)
            for step in pipeline]


def values(cfg, kind, key):
    found = [step[key] for step in steps_of(cfg) if step.type == kind and key in step]
    assert found
    return found


def swapped(way, folder, tmp_path):
    if way == 'leaf':
        return load_leaf(tmp_path, f"model = dict(llm=dict(pretrained='{folder}'))")
    return load_config(CONFIGS / 'stage2.py', {'model.llm.pretrained': folder})


@pytest.mark.parametrize('way', ['leaf', 'command line'])
@pytest.mark.parametrize('family', CONTEXTS)
def test_another_llm_brings_its_tokenizer_everywhere(llms, tmp_path, family, way):
    cfg = swapped(way, llms[family], tmp_path)
    wanted = dict(type='InstructionTokenizer', path=llms[family], num_visual_tokens=256,
                  max_length=min(2048, CONTEXTS[family]))
    assert cfg.model.tokenizer == wanted
    asking = values(cfg, 'BuildInstructions', 'tokenizer')
    # Seven datasets to train on, two to test on.
    assert len(asking) == 9
    assert [*asking, *values(cfg, 'TokenizeRequests', 'tokenizer')] == [wanted] * 10


@pytest.mark.parametrize('family', CONTEXTS)
def test_the_ids_of_every_pipeline_are_those_of_the_swapped_model(llms, tmp_path, family):
    cfg = swapped('leaf', llms[family], tmp_path)
    llm = MODELS.build(dict(cfg.model.llm, gradient_checkpointing=False))
    with DefaultScope.overwrite_default_scope('mvp_mm'):
        built = [TRANSFORMS.build(step).tokenizer for step in steps_of(cfg)
                 if 'tokenizer' in step]
    assert {one.per_id for one in built} == {built[0].per_id}
    assert built[0].per_id < llm.vocab_size == SIZES['vocab_size']
    assert built[0].max_length <= llm.max_length


@pytest.mark.parametrize('way', ['leaf', 'command line'])
def test_another_canvas_reaches_every_pipeline_and_the_visual_tokens(tmp_path, way):
    cfg = (load_leaf(tmp_path, 'canvas = (512, 768)') if way == 'leaf' else
           load_config(CONFIGS / 'stage2.py', {'canvas': (512, 768)}))
    assert set(values(cfg, 'ResizeToCanvas', 'scale')) == {(512, 768)}
    assert set(values(cfg, 'PadToCanvas', 'size')) == {(512, 768)}
    assert cfg.model.tokenizer.num_visual_tokens == 8 * 12
    assert {t.num_visual_tokens for t in values(cfg, 'BuildInstructions', 'tokenizer')} == {96}


@pytest.mark.parametrize('connector, tokens', [
    ("dict(merge=1)", 32 * 32), ("dict(_delete_=True, type='ConvConnector')", 16 * 16)])
def test_visual_tokens_are_counted_by_the_connector(tmp_path, connector, tokens):
    cfg = load_leaf(tmp_path, f'model = dict(connector={connector})')
    assert cfg.model.tokenizer.num_visual_tokens == tokens


@MODELS.register_module()
class EveryFourth:
    """A connector from outside, over a backbone whose last map is at stride 16."""

    @staticmethod
    def num_tokens(height, width, keep=4):
        return height * width // keep

    @staticmethod
    def last_stride():
        return 16


def test_connectors_and_backbones_of_ones_own_tell_their_tokens(tmp_path):
    cfg = load_leaf(tmp_path, """
model = dict(connector=dict(_delete_=True, type='EveryFourth'),
             encoder=dict(backbone=dict(_delete_=True, type='EveryFourth')))""")
    assert cfg.model.tokenizer.num_visual_tokens == 64 * 64 // 4


def test_a_canvas_that_the_connector_cannot_divide_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'canvas=\(1056, 1024\), model.connector: .* 32 × 33'):
        load_leaf(tmp_path, 'canvas = (1056, 1024)')


@pytest.mark.parametrize('way', ['leaf', 'command line'])
def test_the_room_for_the_response_follows_the_model(tmp_path, way):
    cfg = (load_leaf(tmp_path, 'model = dict(max_response_tokens=200)') if way == 'leaf' else
           load_config(CONFIGS / 'stage2.py', {'model.max_response_tokens': 200}))
    asked = [step.get('response_room') for step in steps_of(cfg)
             if step.type in ('BuildInstructions', 'TokenizeRequests')
             and not step.get('training')]
    assert asked == [200] * 3


def test_task_settings_reach_tests_and_inferencer(tmp_path):
    cfg = load_leaf(
        tmp_path, 'task_settings = dict(PanopticTask=dict(overlap_thr=0.7))', 'eval/all.py')
    tasks = [task for loader in cfg.test_dataloader.values() for task in loader.dataset.tasks]
    tasks.append(cfg.inferencer.tasks.panoptic)
    told = [t for t in tasks if t.type == 'PanopticTask']
    # COCO, ADE20K and Cityscapes, and the inferencer.
    assert [t.overlap_thr for t in told] == [0.7] * 4
    assert 'task_settings' not in cfg


OWN_STEP = """
pipelines = dict(test=[dict(type='BuildInstructions', training=False, {}), 'fit'])"""


@pytest.mark.parametrize('text, places', [
    (OWN_STEP.format("tokenizer=dict(type='InstructionTokenizer', path='elsewhere')"),
     (r"val_dataloader\.panoptic\.dataset\.pipeline\[0\]\.tokenizer\.path='elsewhere'",
      r"model\.tokenizer\.path='checkpoints/phi-1_5'")),
    (OWN_STEP.format('response_room=3'), (r'response_room=3', r'max_response_tokens=272')),
    ("pipelines = dict(fit=[dict(type='PadToCanvas', size=(512, 512))])",
     (r'pipeline\[3\]\.size=\[512, 512\] .*\(and 11 more places\)', r'canvas=\[1024, 1024\]')),
    ('model = dict(tokenizer=dict(num_visual_tokens=64))',
     (r'num_visual_tokens=64', r'256 that canvas=\(1024, 1024\)')),
    ("""
task_settings = dict(PanopticTask=dict(overlap_thr=0.7))
datasets = dict(coco_panoptic_val=dict(tasks=[dict(type='PanopticTask', overlap_thr=0.5)]))""",
     (r'panoptic\.dataset\.tasks\[0\]\.overlap_thr=0\.5',
      r'task_settings\.PanopticTask\.overlap_thr=0\.7')),
], ids=['tokenizer', 'room', 'canvas', 'visual tokens', 'task setting'])
def test_a_copy_that_differs_is_refused_and_both_places_are_named(tmp_path, text, places):
    with pytest.raises(ConfigError) as caught:
        load_leaf(tmp_path, text)
    for place in places:
        assert re.search(place, str(caught.value))


def test_a_length_beyond_the_llms_context_is_refused(llms, tmp_path):
    with pytest.raises(ConfigError, match=(
            r'model\.tokenizer\.max_length=2048 is more than max_position_embeddings of '
            r'.*config\.json=512')):
        load_leaf(tmp_path, f"model = dict(llm=dict(pretrained='{llms['phi']}'), "
                            'tokenizer=dict(max_length=2048))')


def test_a_config_in_memory_is_bound_and_stays_as_it_was():
    given = Config.fromfile(CONFIGS / 'tiny/stage2.py')
    before = given.to_dict()
    assert load_config(given).to_dict() == load_config(CONFIGS / 'tiny/stage2.py').to_dict()
    assert given.to_dict() == before


@pytest.mark.parametrize('name', ['stage2', 'tiny/stage1', 'released/tiny', 'eval/all'])
def test_loading_what_was_loaded_changes_nothing(name):
    cfg = load_config(CONFIGS / f'{name}.py')
    assert load_config(cfg).to_dict() == cfg.to_dict()


def test_the_text_of_a_loaded_config_loads_to_itself():
    cfg = load_config(CONFIGS / 'tiny/stage2.py')
    assert load_config(Config.fromstring(cfg.pretty_text, '.py')).to_dict() == cfg.to_dict()


def test_the_check_finds_a_model_whose_tokenizer_was_changed_after_loading(tmp_path):
    cfg = load_config(CONFIGS / 'tiny/stage2.py', {'model.tokenizer.path': str(tmp_path)})
    check_config(cfg, modes=())
    cfg.model.tokenizer.path = str(tmp_path / 'other')
    (tmp_path / 'other').mkdir()
    with pytest.raises(ConfigError, match=r"tokenizer\.path='.*' differs from model\.tokenizer"):
        check_config(cfg, modes=())


def test_the_check_refuses_a_config_that_was_not_loaded(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'tiny/stage2.py')
    with pytest.raises(ConfigError, match='read the config with mvp_mm.engine.load_config'):
        check_config(cfg, modes=())


def test_environment_variables_name_a_base(tmp_path, monkeypatch):
    monkeypatch.setenv('MVP_MM_MODEL', str(CONFIGS / 'tiny/stage2.py'))
    cfg = load_config(CONFIGS / 'eval/ade20k.py')
    assert cfg.canvas == (128, 128) and list(cfg.test_dataloader) == ['ade20k']
    assert os.path.basename(cfg.model.tokenizer.path) == 'tokenizer'


def test_datasets_are_listed_by_name_as_what_reads_the_files():
    known = load_datasets(ROOT / 'configs/_base_/datasets.py')
    assert known['pascal_voc_val']['type'] == 'SemanticMapDataset'
    assert not [name for name, cfg in known.items() if {'metrics', 'pipeline'} & cfg.keys()]


def test_nothing_is_left_that_only_serves_the_reading():
    cfg = load_config(CONFIGS / 'stage2.py')
    assert not {'datasets', 'pipelines', 'test_loader_defaults', 'task_settings'} & cfg.keys()
    assert not [name for name in cfg if name.startswith('_')]
    assert 'mix' not in cfg.train_dataloader
    assert json.dumps(cfg.to_dict())


def test_tensorboard_is_inherited_beside_any_leaf(tmp_path):
    path = tmp_path / 'leaf.py'
    path.write_text(f"_base_ = ['{CONFIGS / 'tiny/stage2.py'}', "
                    f"'{ROOT / 'configs/_base_/tensorboard.py'}']\n")
    assert [one.type for one in load_config(path).visualizer.vis_backends] == [
        'LocalVisBackend', 'TensorboardVisBackend']


def test_vis_backends_apart_reach_the_visualizer(tmp_path):
    cfg = load_leaf(tmp_path, "vis_backends = [dict(type='TensorboardVisBackend')]")
    assert cfg.visualizer.vis_backends == cfg.vis_backends


def test_a_path_that_is_no_file_is_one_error():
    with pytest.raises(ConfigError, match='config not found: nowhere.py'):
        load_config(Path('nowhere.py'))


def test_a_copy_that_says_a_part_is_completed(tmp_path):
    cfg = load_leaf(tmp_path, OWN_STEP.format(
        "tokenizer=dict(type='InstructionTokenizer', path='checkpoints/phi-1_5')"))
    step = cfg.test_dataloader.panoptic.dataset.pipeline[0]
    assert step.tokenizer == cfg.model.tokenizer
