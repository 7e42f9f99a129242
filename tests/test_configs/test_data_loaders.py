# Copyright (c) mvp_mm authors. All rights reserved.
"""Datasets by name, mixes, and what a data loader is given when a config says little."""
from __future__ import annotations

import pytest

from mvp_mm.engine import ConfigError, check_config, load_config
from tests.helpers import ROOT

CONFIGS = ROOT / 'configs/mvplm'
TINY = CONFIGS / 'tiny/stage2.py'
COLLATE = dict(type='perception_collate')


def load_leaf(folder, text, options=None, base=TINY):
    path = folder / 'leaf.py'
    path.write_text(f"_base_ = '{base}'\n{text}\n")
    return load_config(path, options)


OWN = """
train_dataloader = dict(_delete_=True, batch_size=3, dataset=dict(
    type='BoxDetectionDataset', data_root='data/own', ann_file='a.json',
    data_prefix=dict(img='images'), tasks=[dict(type='DetectionTask')]))
"""


def test_an_own_train_loader_has_safe_defaults(tmp_path):
    loader = load_leaf(tmp_path, OWN).train_dataloader
    assert loader.collate_fn == COLLATE
    assert loader.sampler == dict(type='InfiniteSampler', shuffle=True)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert [step.type for step in loader.dataset.pipeline] == [
        'BuildInstructions', 'LoadImage', 'LoadPerceptionAnnotations', 'ResizeToCanvas',
        'PadToCanvas', 'PackPerceptionInputs']
    assert loader.dataset.pipeline[0].training


def test_epochs_take_a_sampler_that_ends(tmp_path):
    cfg = load_leaf(tmp_path, OWN + "train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=2)")
    assert cfg.train_dataloader.sampler == dict(type='DefaultSampler', shuffle=True)


def test_an_own_test_loader_repeats_no_sample(tmp_path):
    cfg = load_leaf(tmp_path, """
test_dataloader = dict(_delete_=True, mine=dict(dataset=dict(
    type='BoxDetectionDataset', ann_file='a.json', test_mode=True,
    tasks=[dict(type='DetectionTask')], metrics=[dict(type='CocoAPMetric')])))
""")
    loader, = cfg.test_dataloader.values()
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False, round_up=False)
    assert loader.collate_fn == COLLATE and loader.batch_size == 8
    assert cfg.test_evaluator == dict(
        mine=[dict(type='CocoAPMetric'), dict(type='ResponseMetric')])
    assert 'metrics' not in loader.dataset


def test_an_explicit_pipeline_stays(tmp_path):
    cfg = load_leaf(tmp_path, OWN.replace(
        'tasks=', "pipeline=[dict(type='BuildInstructions', training=True), "
                  "dict(type='LoadImage')], tasks="))
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in steps] == ['BuildInstructions', 'LoadImage']
    assert steps[0].tokenizer == cfg.model.tokenizer


@pytest.mark.parametrize('workers, persistent', [(0, False), (3, True)])
def test_persistent_workers_follow_the_number_of_workers(workers, persistent):
    options = {'train_dataloader.num_workers': workers}
    assert load_config(CONFIGS / 'stage2.py', options).train_dataloader.persistent_workers is (
        persistent)


def test_inherited_persistent_workers_end_with_the_workers(tmp_path):
    cfg = load_leaf(tmp_path, """
train_dataloader = dict(persistent_workers=True, prefetch_factor=4)
test_loader_defaults = dict(persistent_workers=True)""")
    for loader in (cfg.train_dataloader, *cfg.test_dataloader.values()):
        assert loader.num_workers == 0 and loader.persistent_workers is False
        assert 'prefetch_factor' not in loader


def test_a_mix_is_a_concatenation_in_its_order(tmp_path):
    loader = load_leaf(tmp_path, """
train_dataloader = dict(mix=dict(_delete_=True, syn_goldg_train=3, syn_panoptic_train=1.5))
""").train_dataloader
    assert [one.type for one in loader.dataset.datasets] == [
        'GroundingDataset', 'CocoPanopticDataset']
    assert loader.sampler == dict(type='RatioSampler', ratios=[3, 1.5])
    assert loader.dataset.ignore_keys == ['classes', 'thing_flags']


def test_shares_are_changed_one_by_one_and_zero_leaves_out():
    loader = load_config(TINY, {'train_dataloader.mix.syn_joined_train': 0,
                                'train_dataloader.mix.syn_goldg_train': 5}).train_dataloader
    assert loader.sampler.ratios == [1, 5]
    assert [one.type for one in loader.dataset.datasets] == [
        'BoxDetectionDataset', 'GroundingDataset']


def test_a_mix_of_one_is_that_dataset():
    loader = load_config(TINY, {'train_dataloader.mix.syn_joined_train': 0,
                                'train_dataloader.mix.syn_goldg_train': 0}).train_dataloader
    assert loader.dataset.type == 'BoxDetectionDataset'
    assert loader.sampler.type == 'InfiniteSampler'


@pytest.mark.parametrize('options, message', [
    ({'train_dataloader.mix.syn_godlg_train': 1},
     "train_dataloader.dataset.datasets[3]: no dataset 'syn_godlg_train' in datasets; did you "
     "mean 'syn_goldg_train'?"),
    ({'train_dataloader.mix.syn_goldg_train': -1},
     'train_dataloader.mix.syn_goldg_train: a share is a number, 0 or more, got -1'),
    ({'train_dataloader.dataset': 'syn_goldg_train'},
     'train_dataloader: has both mix and dataset'),
    ({'test_dataloader.goldg.dataset': 'nowhere'},
     "test_dataloader.goldg.dataset: no dataset 'nowhere'"),
    ({'pipelines.fit': ['fti']}, "pipelines.fit: pipeline 'fti' is not in pipelines"),
    ({'pipelines.fit': ['train']}, "pipelines.fit: pipeline 'train' holds itself"),
    ({'canvas': (0, 128)}, 'canvas: is (width, height) in pixels, got [0, 128]'),
    ({'_max_iters': 3}, '_max_iters: a helper of the config files'),
    ({'model.llm.config.0': 3, 'load_from.x': 1}, '--cfg-options load_from.x: '),
])
def test_names_and_shares_that_are_wrong_are_named(options, message):
    with pytest.raises(ConfigError) as caught:
        load_config(TINY, options)
    assert message in str(caught.value)


@pytest.mark.parametrize('key, value, read', [
    ('datasets.syn_goldg_train.data_root', 'elsewhere',
     lambda cfg: cfg.train_dataloader.dataset.datasets[2].data_root),
    ('train_dataloader.dataset.datasets.2.tasks.0.max_negatives', 9,
     lambda cfg: cfg.train_dataloader.dataset.datasets[2].tasks[0].max_negatives),
    ('test_dataloader.goldg.batch_size', 5, lambda cfg: cfg.test_dataloader.goldg.batch_size),
    ('test_loader_defaults.batch_size', 5, lambda cfg: cfg.test_dataloader.refcoco.batch_size),
    ('test_dataloader.goldg.dataset.data_root', 'x',
     lambda cfg: cfg.test_dataloader.goldg.dataset.data_root),
    ('test_evaluator.goldg.0.prefix', 'own', lambda cfg: cfg.test_evaluator.goldg[0].prefix),
    ('train_dataloader.sampler.ratios', [1, 2, 3],
     lambda cfg: cfg.train_dataloader.sampler.ratios),
])
def test_the_command_line_names_what_is_written_and_what_comes_of_it(key, value, read):
    assert read(load_config(TINY, {key: value})) == value


def test_one_change_of_a_dataset_is_seen_by_that_dataset_alone():
    cfg = load_config(TINY, {'train_dataloader.dataset.datasets.1.tasks.0.num_negatives': (0, 1)})
    again = load_config(TINY)
    assert cfg.test_dataloader == again.test_dataloader
    assert cfg.train_dataloader.dataset.datasets[0] == again.train_dataloader.dataset.datasets[0]


def test_metrics_and_datasets_of_other_names_are_named(tmp_path):
    cfg = load_leaf(tmp_path, "test_evaluator = dict(goldgg=[dict(type='GroundingRecallMetric')])",
                    {'model.tokenizer.path': str(tmp_path)})
    with pytest.raises(ConfigError, match=(
            "test_evaluator.goldgg: test_dataloader has no such dataset; did you mean 'goldg'")):
        check_config(cfg, modes=())
