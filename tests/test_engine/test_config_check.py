# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mvp_mm.datasets import PerceptionDataset
from mvp_mm.engine import ConfigError, check_config
from mvp_mm.engine.config_check import arguments_of
from mvp_mm.registry import DATASETS
from tests.test_engine import toys

RUNTIME = Path(__file__).parents[2] / 'configs' / '_base_'


def test_a_sound_config_passes(toy_config):
    toy_config._own_variable = 3
    check_config(toy_config, modes=('train', 'val', 'test'))


@pytest.mark.parametrize('name', ['default_runtime.py', 'tensorboard.py'])
def test_the_default_runtime_passes(name):
    check_config(Config.fromfile(RUNTIME / name))


@pytest.mark.parametrize('change, message', [
    ({'optim_wraper': {}},
     "unknown top-level key 'optim_wraper'; did you mean 'optim_wrapper'"),
    ({'model.type': 'ToyModle'},
     r"model\.type: 'ToyModle' is in no registry; did you mean 'ToyModel'"),
    ({'model.type': 'mmdet.SwinTransfomer'}, "did you mean 'mmdet.SwinTransformer'"),
    ({'model.widht': 3}, r"model\.widht: ToyModel takes no 'widht'; did you mean 'width'"),
    ({'custom_hooks': [dict(type='StageCheckpointHook', prioriti=3)]},
     r"custom_hooks\[0\]\.prioriti: StageCheckpointHook takes no 'prioriti'"),
    ({'optim_wrapper.optimizer.weigth_decay': 1},
     r"optimizer\.weigth_decay: SGD takes no 'weigth_decay'; did you mean 'weight_decay'"),
    ({'train_dataloader.batchsize': 1},
     r"train_dataloader\.batchsize: .*did you mean 'batch_size'"),
    ({'test_dataloader.refcoco.num_worker': 1},
     r"test_dataloader\.refcoco\.num_worker: .*did you mean 'num_workers'"),
])
def test_unknown_names_are_named(toy_config, change, message):
    toy_config.merge_from_dict(change)
    with pytest.raises(ConfigError, match=message):
        check_config(toy_config)


class PassingOn(toys.ToyDataset):
    def __init__(self, extra=None, **kwargs):
        super().__init__(**kwargs)


class Keeping(toys.ToyDataset):
    def __init__(self, **kwargs):
        self.kept = kwargs.pop('anything', None)
        super().__init__(**kwargs)


def test_keywords_passed_on_to_a_base_class_are_checked(toy_config):
    toy_config.train_dataloader.dataset = dict(type=PassingOn, extra=1, siez=3)
    with pytest.raises(ConfigError, match=r"dataset\.siez: PassingOn takes no 'siez'.*'size'"):
        check_config(toy_config)
    toy_config.train_dataloader.dataset = dict(type=Keeping, anything=1)
    check_config(toy_config)


@pytest.mark.parametrize('name', [
    name for name, component in DATASETS.module_dict.items()
    if issubclass(component, PerceptionDataset)])
def test_every_keyword_of_a_dataset_is_known(name):
    known = arguments_of(DATASETS.get(name))
    assert known is not None and {'ann_file', 'data_root', 'data_prefix', 'tasks'} <= known


def test_keys_that_mmengine_consumes_are_known(toy_config):
    toy_config.custom_hooks = [dict(type='StageCheckpointHook', priority=10)]
    toy_config.optim_wrapper.paramwise_cfg = dict(norm_decay_mult=0.0)
    check_config(toy_config)


def test_missing_files_are_named_with_their_folder(toy_config, tmp_path):
    dataset = toy_config.train_dataloader.dataset
    dataset.data_root, dataset.ann_file = str(tmp_path), 'train.json'
    with pytest.raises(ConfigError, match=(
            rf'train_dataloader\.dataset\.ann_file: no such file.*{tmp_path}/train\.json')):
        check_config(toy_config)
    (tmp_path / 'train.json').touch()
    check_config(toy_config)


def test_files_of_other_modes_are_not_looked_for(toy_config):
    toy_config.test_dataloader.refcoco.dataset.ann_file = 'nowhere.json'
    check_config(toy_config, modes=('train',))
    with pytest.raises(ConfigError, match=r'test_dataloader\.refcoco\.dataset\.ann_file'):
        check_config(toy_config, modes=('test',))


def test_missing_weights_are_named(toy_config):
    toy_config.load_from = 'stage1.pth'
    toy_config.model.init_cfg = dict(type='Pretrained', checkpoint='swin.pth')
    with pytest.raises(ConfigError) as caught:
        check_config(toy_config)
    assert 'load_from: no such file or folder: stage1.pth' in str(caught.value)
    assert 'model.init_cfg.checkpoint: no such file or folder: swin.pth' in str(caught.value)


def test_all_problems_come_in_one_error(toy_config):
    toy_config.merge_from_dict({'modle': {}, 'model.widht': 3, 'train_cfg.type': 'Nothing'})
    with pytest.raises(ConfigError, match='has 3 problem'):
        check_config(toy_config)
