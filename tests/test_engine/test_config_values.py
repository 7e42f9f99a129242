# Copyright (c) mvp_mm authors. All rights reserved.
"""Values of another type or out of their range are refused by their path."""
from __future__ import annotations

import pytest

from mvp_mm.engine import ConfigError, check_config, load_config
from mvp_mm.engine.config_guards import GUARDS, missing_guards
from tests.helpers import ROOT

TINY = ROOT / 'configs/mvplm/tiny/stage2.py'


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    return {'model.tokenizer.path': str(tmp_path_factory.mktemp('tokenizer'))}


@pytest.mark.parametrize('key, value, message', [
    ('train_cfg.max_iters', 'abc', "a whole number, got 'abc'"),
    ('train_cfg.max_iters', 0, '1 or more, got 0'),
    ('model.perception.query_generator.num_queries', -3, '1 or more, got -3'),
    ('train_dataloader.sampler.ratios', [1, 2], '2 ratios for 3 datasets'),
    ('train_dataloader.sampler.ratios', [1, 0, 2], 'a number above 0, got 0'),
    ('train_dataloader.batch_size', 'x', "got 'x'"),
    ('train_dataloader.num_workers', -1, '0 or more, got -1'),
    ('total_batch_size', 0, '1 or more, got 0'),
    ('optim_wrapper.clip_grad.max_norm', 0, 'above 0, got 0'),
    ('optim_wrapper.optimizer.lr', float('nan'), 'nan is not finite'),
    ('optim_wrapper.optimizer.betas', (0.9, 1.5), 'from 0 to below 1, got 1.5'),
    ('optim_wrapper.optimizer.betas', (0.9, 'x'), "betas[1]: must be a number, from 0 to below"),
    ('optim_wrapper.optimizer.betas', (None, 0.9), 'betas[0]: must be a number'),
    ('model.encoder.backbone.strides', (4, 'x', 2, 2), "strides[1]: must be a number, got 'x'"),
    ('param_scheduler.1.eta_min', (1, 2), 'got (1, 2)'),
    ('model.perception.denoising.box_noise', -1, '0 or more, got -1'),
    ('model.perception', {}, 'a dict with a type'),
    ('model.perception.decoder.type', 3, 'the name of a type, got 3'),
    ('model.thinking', 'yes', "True or False, got 'yes'"),
    ('model.encoder.backbone.drop_path_rate', '0.1', "must be"),
    ('train_dataloader.dataset.datasets.1.pipeline.1', 3, 'a dict with a type, got 3'),
    ('train_dataloader.dataset.datasets.1.data_prefix.img', 3, 'a text, got 3'),
    ('default_hooks.logger.interval', 0, '1 or more, or -1 for never, got 0'),
    ('default_hooks.checkpoint', 3.7, 'a dict with a type, got 3.7'),
    ('default_hooks.visualization', None, "None switches off mmengine's own hooks alone"),
    ('default_hooks.exact_resume', {}, 'a dict with a type, got {}'),
    ('default_hooks.watchdog.worker_timeout', 1e30, 'from 0 to 10 000 000 seconds'),
    ('env_cfg.mp_cfg.opencv_num_threads', [], 'a whole number, got []'),
    ('env_cfg.mp_cfg.mp_start_method', 'thread', "got 'thread'"),
    ('env_cfg.cudnn_benchmark', (1, 2), 'True or False, got (1, 2)'),
    ('env_cfg.dist_cfg.timeout', -5, 'from 0 to 10 000 000 seconds'),
    ('randomness.seed', 3.7, 'got 3.7'),
    ('log_level', 1e30, 'got 1e+30'),
    ('log_level', 'LOUD', "'LOUD' is no level"),
    ('model_wrapper_cfg.broadcast_buffers', {}, 'got {}'),
    ('optim_wrapper.constructor', 10**9, '1000000000 is no constructor'),
    ('inferencer.tasks.detection', 'x', "a dict with a type, got 'x'"),
    ('model.encoder.backbone.embed_dims', 1e30, 'a whole number, 1 or more, got 1e+30'),
    ('model.encoder.backbone.depths', None, 'got None'),
    ('model.llm.config.hidden_act', -1, 'a text, got -1'),
    ('model.llm.config.hidden_act', 'gelo', "'gelo' is no activation"),
    ('model.llm.config.model_type', 'pih', "'pih' is no family of transformers"),
    ('model.llm.config.num_attention_heads', 10**9, 'cannot be divided among 1000000000 heads'),
    ('model.llm.config.num_key_value_heads', 3, 'heads cannot share 3 heads'),
    ('model.perception.criterion.type', 'json', "'json' is in no registry"),
    ('train_dataloader', {}, 'a dict with a dataset or a mix, got {}'),
    ('train_dataloader.dataset.datasets.1.tasks', [], 'at least one task'),
])
def test_a_value_that_cannot_be_is_named_with_its_key(tiny, key, value, message):
    cfg = load_config(TINY, tiny)
    place = cfg
    *parents, last = key.split('.')
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    with pytest.raises(ConfigError) as caught:
        check_config(cfg, modes=())
    line = next(line for line in str(caught.value).splitlines() if message in line)
    assert key.split('.')[-1] in line or f'[{key.split(".")[-1]}]' in line


@pytest.mark.parametrize('key, value', [
    ('optim_wrapper.clip_grad', None), ('optim_wrapper.clip_grad.max_norm', float('inf')),
    ('model.perception.denoising', None), ('total_batch_size', None),
    ('model.perception.query_generator.num_queries', 3), ('default_hooks.timer', None),
    ('default_hooks.checkpoint.interval', -1)])
def test_values_that_mean_something_pass(tiny, key, value):
    check_config(load_config(TINY, {**tiny, key: value}), modes=())


@pytest.mark.parametrize('key', ['model', 'train_dataloader', 'datasets', 'optim_wrapper'])
def test_a_section_is_a_dict(key):
    with pytest.raises(ConfigError, match=f'{key} is a dict, got 3'):
        load_config(TINY, {key: 3})


@pytest.mark.parametrize('value, message', [
    (True, 'pipelines.test: must be a list of steps, got True'),
    ([3], r'pipelines.test\[0\]: must be a dict with a type or the name of a pipeline, got 3')])
def test_a_named_pipeline_is_a_list_of_steps(value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(TINY, {'pipelines.test': value})


@pytest.mark.parametrize('key, value, message', [
    ('train_dataloader.mix', 0, 'train_dataloader.mix: must be a dict of shares by name, got 0'),
    ('datasets.syn_refcoco_val.metrics', float('nan'), 'metrics: must be a list of dicts'),
    ('datasets.syn_refcoco_val.metrics', [{}], 'metrics: must be a list of dicts'),
    ('datasets.syn_refcoco_val.metrics', [dict(type={})],
     r'datasets.syn_refcoco_val.metrics\[0\].type: must be the name of a type, got {}'),
    ('datasets.syn_captions_train.tasks', [dict(type=3.7)],
     r'datasets.syn_captions_train.tasks\[0\].type: must be the name of a type, got 3.7'),
    ('datasets.syn_captions_train', 3, 'datasets.syn_captions_train: must be a dict with a type'),
    ('pipelines.train_tar', 0, 'pipelines.train_tar: must be a list of steps, got 0'),
    ('pipelines.train_tar', ['load', 3], r'pipelines.train_tar\[1\]: must be a dict with a type')])
def test_what_names_stand_for_has_the_right_form_used_or_not(key, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(TINY, {key: value})


@pytest.mark.parametrize('value', [
    10**9, 'tests.helpers', [], {}, dict(imports=3), dict(imports=[3]),
    dict(imports='json', allow_failed_imports='x'), dict(imports='json', other=True)])
def test_custom_imports_that_cannot_be_are_named(tmp_path, value):
    path = tmp_path / 'a.py'
    path.write_text(f'custom_imports = {value!r}\n')
    with pytest.raises(ConfigError, match='a.py: custom_imports: '):
        load_config(path)


def test_a_module_that_cannot_be_imported_is_named(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text("custom_imports = dict(imports=['no_such_module'])\n")
    with pytest.raises(ConfigError, match='no_such_module'):
        load_config(path)


def test_training_needs_data(tiny):
    cfg = load_config(TINY, tiny)
    cfg.train_dataloader = None
    with pytest.raises(ConfigError, match='train_dataloader: must be a dict with a dataset'):
        check_config(cfg, modes=('train', ))


def test_a_named_dataset_is_a_dict():
    with pytest.raises(ConfigError, match='datasets.syn_refcoco_val: must be a dict with a type'):
        load_config(TINY, {'datasets.syn_refcoco_val': 3})


def test_guards_that_a_config_leaves_out_are_named():
    cfg = load_config(TINY)
    assert missing_guards(cfg) == []
    cfg.default_hooks.pop('finite_step')
    line, = missing_guards(cfg)
    assert line.startswith('no FiniteStepHook: ')
    cfg.default_hooks = None
    assert len(missing_guards(cfg)) == len(GUARDS)


def test_a_missing_file_that_many_places_name_is_told_once(tmp_path):
    cfg = load_config(TINY, {'model.tokenizer.path': str(tmp_path / 'gone')})
    with pytest.raises(ConfigError) as caught:
        check_config(cfg, modes=('train', 'test'))
    lines = [line for line in str(caught.value).splitlines() if f'{tmp_path}/gone' in line]
    line, = lines
    assert 'model.tokenizer.path (and 8 more places)' in line
