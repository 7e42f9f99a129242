# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.models.layers import coordinate_to_encoding
from mmengine.config import Config
from torch.overrides import TorchFunctionMode

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.engine import check_config, load_config
from mvp_mm.models.position import DetrPosition
from mvp_mm.registry import MODELS
from mvp_mm.structures import Answering
from tests.helpers import ROOT, save_tokenizer

CONFIGS = ROOT / 'configs'
ALL = sorted(CONFIGS.rglob('*.py'))
LEAVES = sorted((CONFIGS / 'mvplm').rglob('*.py'))

# What a tiny model may change: sizes, files, and which parts train.
TINY_MODEL_KEYS = {
    'connector.merge', 'embed_dims', 'encoder.backbone.depths', 'encoder.backbone.embed_dims',
    'encoder.backbone.num_heads', 'encoder.backbone.pretrain_img_size',
    'encoder.backbone.window_size', 'encoder.frozen', 'llm.config.hidden_size',
    'llm.config.intermediate_size', 'llm.config.max_position_embeddings',
    'llm.config.num_attention_heads', 'llm.config.num_hidden_layers', 'llm.config.vocab_size',
    # Narrow position codes have other frequencies.
    'perception.decoder.position_code', 'pixel_decoder.position.type',
    # Phrases of an LLM that starts from random weights read their input embeddings too.
    'llm.kept_layers', 'llm.gradient_checkpointing', 'llm.pretrained',
    'max_response_tokens', 'perception.criterion.num_points', 'perception.decoder.feedforward',
    'perception.decoder.num_heads', 'perception.decoder.num_layers',
    'perception.denoising.num_queries', 'perception.matcher.num_points',
    'perception.num_stuff_queries', 'perception.query_generator.num_queries',
    'pixel_decoder.feedforward', 'pixel_decoder.num_heads', 'pixel_decoder.num_layers',
    'tokenizer.max_length', 'tokenizer.num_visual_tokens', 'tokenizer.path', 'trainable'
}
TINY_OTHER_KEYS = {
    'canvas', 'default_hooks.checkpoint.interval', 'default_hooks.handover.pretrained_parts',
    'default_hooks.visualization.interval', 'default_hooks.visualization.type', 'load_from',
    'model_wrapper_cfg.bucket_cap_mb', 'optim_wrapper.clip_grad.max_norm', 'optim_wrapper.dtype',
    'optim_wrapper.optimizer.lr', 'param_scheduler', 'test_cfg.dtype', 'total_batch_size',
    'train_cfg.max_iters', 'train_cfg.val_interval', 'val_cfg.dtype', 'val_cfg.type'
}
DATA_KEYS = {'train_dataloader', 'test_dataloader', 'test_evaluator', 'inferencer',
             'val_dataloader', 'val_evaluator'}


def read(name):
    return load_config(CONFIGS / 'mvplm' / f'{name}.py')


@pytest.fixture(scope='module')
def full():
    return {name: read(name) for name in ('stage1', 'stage2', 'plus/stage2')}


def flatten(value, path=''):
    """Leaves of nested dicts by dotted path; lists are leaves."""
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for key, child in value.items():
        found.update(flatten(child, f'{path}.{key}' if path else str(key)))
    return found


def differing(one, other):
    missing = object()
    one, other = flatten(one), flatten(other)
    return {key for key in one.keys() | other.keys()
            if one.get(key, missing) != other.get(key, missing)}


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
    grouped = path.parent.name in ('ablations', 'eval', 'finetune', 'plus', 'released', 'tiny')
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


def changes(cfg, base):
    """Leaves by dotted path where a config departs from another."""
    mine, theirs = flatten(cfg.to_dict()), flatten(base.to_dict())
    return {key: value for key, value in mine.items()
            if not key.startswith('_') and theirs.get(key, None) != value}


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


@pytest.mark.parametrize('name, lr, decay, steps, batch', [
    ('stage1', 2e-3, 0.0, 4650, 128), ('stage2', 4e-5, 0.05, 80000, 64)])
def test_schedules_are_the_papers(full, name, lr, decay, steps, batch):
    cfg = full[name]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, decay)
    assert cfg.train_cfg.max_iters == steps
    assert cfg.total_batch_size == batch
    # The paper does not tell how a batch was spread; we assume eight GPUs.
    assert cfg.train_dataloader.batch_size * 8 == batch


@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_warm_up_is_three_percent_then_cosine(full, name):
    warmup, cosine = full[name].param_scheduler
    steps = full[name].train_cfg.max_iters
    assert (warmup.type, cosine.type) == ('LinearLR', 'CosineAnnealingLR')
    assert warmup.end == cosine.begin == round(0.03 * steps + 1e-9)
    assert cosine.end == steps


def test_loss_weights_are_the_papers(full):
    criterion = full['stage2'].model.perception.criterion
    names = ('word', 'sentence', 'l1', 'giou', 'bce', 'dice')
    assert [criterion[f'{name}_weight'] for name in names] == [2.0, 2.0, 5.0, 2.0, 5.0, 5.0]


def test_the_matcher_weighs_as_the_losses_do(full):
    perception = full['stage2'].model.perception
    for name in ('l1', 'giou', 'bce', 'dice'):
        assert perception.matcher[f'{name}_weight'] == perception.criterion[f'{name}_weight']
    assert perception.matcher.class_weight == perception.criterion.word_weight


def test_queries_are_the_papers(full):
    perception = full['stage2'].model.perception
    assert perception.query_generator.type == 'DynamicQueryGenerator'
    assert (perception.query_generator.num_queries, perception.num_stuff_queries) == (100, 100)


@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_images_are_resized_and_padded_to_1024(full, name):
    dataset = full[name].train_dataloader.dataset
    steps = {step.type: step for step in dataset.get('datasets', [dataset])[0].pipeline}
    assert tuple(steps['ResizeToCanvas'].scale) == tuple(steps['PadToCanvas'].size) == (1024, 1024)


@pytest.mark.parametrize('name, trainable', [('stage1', ['connector']), ('stage2', None)])
def test_trained_parts_are_the_papers(full, name, trainable):
    assert full[name].model.get('trainable') == trainable
    assert full[name].model.encoder.frozen and not full[name].model.llm.get('frozen')


def test_the_mix_is_the_papers(full):
    loader = full['stage2'].train_dataloader
    ratios, datasets = loader.sampler.ratios, loader.dataset.datasets
    share = {}
    for ratio, dataset in zip(ratios, datasets, strict=True):
        share[dataset.type] = share.get(dataset.type, 0) + ratio / sum(ratios)
    assert share == pytest.approx(dict(
        CocoPanopticDataset=0.333, RefCocoDataset=0.333, Objects365Dataset=0.167,
        GroundingDataset=0.167), abs=1e-3)


def test_images_of_referring_evaluation_stay_out_of_coco_training(full):
    coco = full['stage2'].train_dataloader.dataset.datasets[0]
    assert [Path(path).parent.name for path in coco.exclude_refs] == [
        'refcoco', 'refcoco+', 'refcocog']


class LinspaceOnCpu(TorchFunctionMode):
    """mmdet's Swin reads values of a linspace, which the meta device does not have."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


@pytest.fixture(scope='module')
def full_size_model(full):
    with torch.device('meta'), LinspaceOnCpu():
        return MODELS.build({**full['stage2'].model, 'llm': {
            **full['stage2'].model.llm, 'pretrained': None}})


@pytest.mark.parametrize('part, millions', [('encoder', 86.9), ('llm', 1418.3)])
def test_the_full_size_model_has_the_known_number_of_parameters(full_size_model, part, millions):
    count = sum(p.numel() for p in getattr(full_size_model, part).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_stage_two_trains_all_but_the_encoder(full_size_model):
    trains = {name for name, part in full_size_model.named_children()
              if any(p.requires_grad for p in part.parameters())}
    assert trains == {'connector', 'llm', 'pixel_decoder', 'perception'}


TINY = dict(stage1='stage1', stage2='plus/stage2', paper='stage2')
# Tiny images carry questions of several datasets, which shares by image would not tell apart.
SHARED_IMAGES = {'perception.criterion.normalization', 'llm.loss_average'}


@pytest.mark.parametrize('name', TINY)
def test_tiny_models_differ_in_sizes_only(full, name):
    allowed = TINY_MODEL_KEYS | (SHARED_IMAGES if name != 'stage1' else set())
    tiny, large = read(f'tiny/{name}').model, full[TINY[name]].model
    found = {key for key in differing(large, tiny)
             if flatten(tiny).get(key) != DEFAULTS_OF_ADDITIONS.get(key, object)}
    assert found <= allowed


@pytest.mark.parametrize('name', TINY)
def test_the_rest_of_a_tiny_config_differs_in_data_schedule_and_pictures_only(full, name):
    other = [{key: value for key, value in cfg.items()
              if not key.startswith('_') and key not in DATA_KEYS | {'model'}}
             for cfg in (full[TINY[name]], read(f'tiny/{name}'))]
    assert differing(*other) <= TINY_OTHER_KEYS


PAPER = ('stage1', 'stage2', 'stage2_sharded', 'tiny/paper', 'eval/all',
         *(f'ablations/{path.stem}' for path in (CONFIGS / 'mvplm/ablations').glob('*.py')))
# The switches of our additions, as the paper has them: off.
DEFAULTS_OF_ADDITIONS = {
    'perception.similarity_head.relation': False,
    'perception.decoder.position_in_content': False,
    'perception.criterion.ranking_weight': 0.0,
    'perception.criterion.sentence_reduction': 'mean',
    'perception.criterion.positive_iou': None,
    'answering.separate_stuff': False,
    'answering.same_iou': None,
    'answering.nms_iou': None,
}


@pytest.mark.parametrize('name', PAPER)
def test_the_papers_configs_have_no_addition_of_ours(name):
    model = flatten(read(name).model.to_dict())
    assert {key: model.get(key, off) for key, off in DEFAULTS_OF_ADDITIONS.items()} == (
        DEFAULTS_OF_ADDITIONS)


def test_components_without_options_are_the_papers(full_size_model):
    perception = full_size_model.perception
    assert perception.similarity_head.relation is None and perception.relation_mlp is None
    assert not any(layer.position_in_content for layer in perception.decoder.layers)
    assert perception.decoder.encode is coordinate_to_encoding
    assert isinstance(full_size_model.pixel_decoder.position, DetrPosition)
    assert full_size_model.answering == Answering()
    assert (perception.criterion.sentence_reduction, perception.criterion.normalization) == (
        'mean', 'images')


def test_plus_is_the_papers_stage_two_and_our_additions(full):
    found = changes(full['plus/stage2'], full['stage2'])
    datasets = found.pop('train_dataloader.dataset.datasets')
    assert found == {
        'model.perception.similarity_head.relation': True,
        'model.perception.decoder.position_in_content': True,
        'model.perception.criterion.ranking_weight': 1.0,
        'model.perception.criterion.sentence_reduction': 'sum',
        'model.answering.separate_stuff': True,
        'model.llm.loss_average': 'images'}
    sentences = [d['tasks'][0]['max_per_image'] for d in datasets
                 if d['type'] == 'RefCocoDataset']
    theirs = full['stage2'].train_dataloader.dataset.datasets
    assert sentences == [4] * 3
    assert [d.tasks[0].max_per_image for d in theirs if d.type == 'RefCocoDataset'] == [1] * 3


def test_the_benchmarks_of_plus_are_all_benchmarks():
    plus, paper = read('plus/eval'), read('eval/all')
    assert plus.test_dataloader == paper.test_dataloader
    assert plus.test_evaluator == paper.test_evaluator
    assert plus.model.perception.similarity_head.relation


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
