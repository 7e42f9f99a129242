# Copyright (c) mvp_mm authors. All rights reserved.
"""Every full-size config builds, answers and trains: its widths, one layer of each kind."""
from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS, TOKENIZERS
from tests.helpers import ROOT, make_batch, make_samples, save_tokenizer

ABLATIONS = sorted(path.stem for path in (ROOT / 'configs/mvplm/ablations').glob('*.py'))
# Those that name the same model follow each other and share it.
FULL = ('stage1', 'stage2', *sorted((f'ablations/{name}' for name in ABLATIONS),
                                    key=lambda name: 'quer' in name or 'none' in name),
        'stage2_sharded', 'plus/stage2', 'released/stage2')
# Few layers, few tokens, few points; every width stays.
SHALLOW = dict(
    encoder=dict(backbone=dict(depths=(1, 1, 1, 1))),
    llm=dict(pretrained=None, config=dict(num_hidden_layers=1, vocab_size=512)),
    pixel_decoder=dict(num_layers=1),
    perception=dict(decoder=dict(num_layers=1), matcher=dict(num_points=256),
                    criterion=dict(num_points=256)),
    max_response_tokens=8)
VISUAL_TOKENS = 4
# The CPU is slow in bfloat16: these run as they ship, the others in float32.
AS_SHIPPED = ('stage2', 'released/stage2')


@pytest.fixture(scope='module')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture
def like_cuda(monkeypatch):
    """Norms give float32 under autocast, as they do on CUDA and not on the CPU."""
    for name in ('layer_norm', 'group_norm'):
        plain = getattr(torch.nn.functional, name)

        def in_float32(values, *args, plain=plain, **kwargs):
            with torch.autocast('cpu', enabled=False):
                return plain(values.float(), *args, **kwargs)

        monkeypatch.setattr(torch.nn.functional, name, in_float32)


def shallow(name, tokenizer_path):
    """The config with few layers, and the tasks of its first sources."""
    cfg = load_config(ROOT / f'configs/mvplm/{name}.py')
    cfg.merge_from_dict(dict(model=copy.deepcopy(SHALLOW)))
    cfg.model.tokenizer.update(path=tokenizer_path, num_visual_tokens=VISUAL_TOKENS,
                               max_length=256)
    if len(cfg.model.llm.kept_layers) > 1:
        cfg.model.llm.kept_layers = (0, 1)
    if name not in AS_SHIPPED:
        cfg.optim_wrapper.dtype = None
    dataset = cfg.train_dataloader.dataset
    return cfg, [source.tasks[0] for source in dataset.get('datasets', [dataset])[:2]]


def make_data(cfg, tasks, model, training):
    tokenizer = TOKENIZERS.build(cfg.model.tokenizer)
    groups = []
    for seed, task in enumerate(tasks):
        args = {k: v for k, v in task.items() if k != 'type'}
        samples = make_samples(task.type, cfg.model.tokenizer.path, seed=seed, training=training,
                               visual_tokens=VISUAL_TOKENS, **args)
        for sample in samples:
            tokenizer.tokenize(sample.instruction)
        groups.append(samples)
    return model.data_preprocessor(make_batch(groups), training)


_done = set()


@pytest.mark.parametrize('name', FULL)
def test_a_full_size_config_answers_and_trains(tokenizer_path, like_cuda, name):
    cfg, tasks = shallow(name, tokenizer_path)
    # Configs that differ in data and schedule alone would run the same thing again.
    key = str((cfg.model.to_dict(), tasks, cfg.optim_wrapper.to_dict()))
    if key in _done:
        return
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    widths = (model.llm.hidden_size, model.encoder.out_channels[-1], cfg.model.embed_dims)
    assert widths == (2048, 1024, 256)
    asked = make_data(cfg, tasks, model, training=False)
    assert len(model.eval()(**asked, mode='predict')) == len(asked['data_samples'])

    with DefaultScope.overwrite_default_scope('mvp_mm'):
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    model.train()
    with wrapper.optim_context(model):
        losses = model(**make_data(cfg, tasks, model, training=True), mode='loss')
        total = model.parse_losses(losses)[0]
    assert torch.isfinite(total)
    total.backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert trained and not [key for key, p in trained.items() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in trained.values())
    moving = {key: p.detach().flatten()[:64].clone() for key, p in trained.items()
              if p.grad.flatten()[:64].any()}
    wrapper.step()
    assert moving and not [key for key, old in moving.items()
                           if torch.equal(old, trained[key].flatten()[:64])]
    _done.add(key)
