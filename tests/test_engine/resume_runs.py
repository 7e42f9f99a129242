# Copyright (c) mvp_mm authors. All rights reserved.
"""Short runs of stage 2, cut down, on a synthetic world, with everything random switched on."""
from __future__ import annotations

import uuid
import zlib
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor

from mvp_mm.engine import load_config
from mvp_mm.registry import HOOKS, RUNNERS
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.synthetic import WorldParameters, make_world
from tests.helpers import ROOT, save_tokenizer

MIDDLE, END = 4, 8
# A step takes three passes, so a checkpoint after four lies inside one.
PASSES = 3


def make_data(folder: Path) -> None:
    """Write the world and a tokenizer to ``data/synthetic`` of a folder."""
    make_world(str(folder / 'data/synthetic'), WorldParameters(seed=3, train=10, val=2), workers=1)
    save_tokenizer(folder / 'data/synthetic/tokenizer')


def small_config(folder: Path, name: str, **changes) -> Config:
    """Stage 2 with a model of some ten thousand parameters; run in ``folder``.

    Points, denoising, dropout, drop path, views, colours, word lists and captions are all drawn.
    """
    cfg = load_config(ROOT / 'configs/mvplm/tiny/stage2.py')
    cfg.merge_from_dict(dict(
        model=dict(
            embed_dims=32,
            trainable=['encoder', 'connector', 'llm', 'pixel_decoder', 'perception'],
            encoder=dict(frozen=False, backbone=dict(
                embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), drop_path_rate=0.5)),
            llm=dict(config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                 num_attention_heads=2, resid_pdrop=0.2)),
            pixel_decoder=dict(num_layers=1, num_heads=2, feedforward=16),
            perception=dict(
                num_stuff_queries=2, query_generator=dict(num_queries=6),
                decoder=dict(num_layers=1, num_heads=2, feedforward=16),
                denoising=dict(num_queries=6),
                matcher=dict(num_points=16), criterion=dict(num_points=32)),
            max_response_tokens=6),
        train_dataloader=dict(batch_size=1),
        train_cfg=dict(max_iters=END, val_interval=3),
        val_cfg=dict(type='MultiValLoop'),
        val_dataloader=dict(refcoco=cfg.test_dataloader.refcoco),
        val_evaluator=dict(refcoco=dict(type='ReferringMetric')),
        optim_wrapper=dict(
            dtype='bfloat16', accumulative_counts=PASSES, clip_grad=dict(max_norm=1.0)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=6, end=END)],
        default_hooks=dict(
            checkpoint=dict(interval=MIDDLE, max_keep_ckpts=-1), visualization=None,
            handover=dict(allow_frozen_random_init=['encoder'])),
        work_dir=str(folder / name), log_level='ERROR', launcher='none',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        experiment_name=uuid.uuid4().hex))
    cfg.default_hooks.pop('visualization')
    for dataset in cfg.train_dataloader.dataset.datasets:
        steps = dataset.pipeline
        position = next(i for i, s in enumerate(steps) if s['type'] == 'ResizeToCanvas')
        steps[position] = dict(type='ApplyView')
        steps.insert(position, dict(type='ColorJitter'))
        steps.insert(0, dict(type='DrawView', canvas=(128, 128), flip_prob=0.5,
                             scale_range=(0.8, 1.3)))
    cfg.custom_hooks = [dict(type='TraceHook')]
    cfg.merge_from_dict(changes)
    return cfg


@HOOKS.register_module()
class TraceHook(Hook):
    """Keeps, by iteration, what was asked, the losses and checksums of pixels and weights."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rows: dict[int, dict] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        local = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
        asked = [f'{s.img_id} {s.flip} {s.instruction.prompt} {s.instruction.response}'
                 for image in data_batch['data_samples'] for s in image]
        self.rows[runner.iter + 1] = dict(
            rank=get_rank(), asked=asked,
            pixels=[checksum(image) for image in data_batch['inputs']],
            losses={name: float(value).hex() for name, value in outputs.items()},
            weights=[checksum(p) for p in local],
            lr=[group['lr'] for group in runner.optim_wrapper.param_groups])


def checksum(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.detach().contiguous().numpy().tobytes())


def trace(cfg: Config) -> dict[int, dict]:
    """Train; what the trace hook kept."""
    # mmengine lays out a config's text with every checkpoint, which takes longer than the rest.
    with mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)):
        runner = RUNNERS.build(cfg)
        runner.train()
    rows = next(hook for hook in runner.hooks if isinstance(hook, TraceHook)).rows
    forget_runs()
    return rows


def resumed(name: str) -> dict:
    """Settings that continue a run from its middle."""
    return dict(resume=True, load_from=f'{name}/iter_{MIDDLE}.pth')
