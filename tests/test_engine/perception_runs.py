# Copyright (c) mvp_mm authors. All rights reserved.
"""Short runs of the tiny model, by mmengine's runner, in one process or several."""
from __future__ import annotations

import os
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mvp_mm.registry import DATASETS, HOOKS, RUNNERS
from tests.helpers import make_batch, make_samples, tiny_model_config

# The tasks asked about each of eight images, as arguments of make_samples. What two processes
# see in one step differs in kind, in length and in number.
IMAGES = (
    [dict(task='PanopticTask')],
    [dict(task='ReferringSegmentationTask')],
    [dict(task='DetectionTask', with_masks=False, num_objects=4)],
    [dict(task='CaptionTask')],
    [dict(task='PanopticTask', num_objects=0)],
    [dict(task='InstanceTask'), dict(task='CaptionTask')],
    [dict(task='GeneralizedReferringTask')],
    [dict(task='PanopticTask', num_objects=5)],
)
STEPS, PASSES = 5, 2


@DATASETS.register_module()
class MadeUpImages(Dataset):
    """Images of noise with the tasks above."""

    metainfo = dict(name='made up')

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict:
        groups = [[] for _ in IMAGES]
        groups[index] = [s for request in IMAGES[index] for s in make_samples(
            tokenizer_path=self.tokenizer, seed=index, **request)]
        batch = make_batch(groups)
        return dict(inputs=batch['inputs'][index], data_samples=groups[index])


@HOOKS.register_module()
class KeepLosses(Hook):
    """Keeps the losses and the norm of the gradient of every forward pass."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.norms: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value) for name, value in outputs.items()})
        norm = runner.message_hub.get_scalar('train/grad_norm') if (
            batch_idx % PASSES) else None
        if norm is not None:
            self.norms.append(float(norm.current()))


def run_config(folder: Path, tokenizer: str, name: str, images: int, **changes) -> Config:
    """A run of five steps of two passes, with the settings of stage 2."""
    model = tiny_model_config(
        tokenizer, encoder=dict(frozen=True), embed_dims=64,
        llm=dict(split_by_length=False, gradient_checkpointing=True),
        perception=dict(denoising=dict(label_noise=0.0, box_noise=0.0)))
    cfg = Config(dict(
        default_scope='mvp_mm', model=model, work_dir=str(folder / name),
        train_dataloader=dict(
            batch_size=images, num_workers=0, dataset=dict(type='MadeUpImages',
                                                           tokenizer=tokenizer),
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='perception_collate')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS * PASSES, val_interval=1000),
        optim_wrapper=dict(
            type='OptimWrapper', constructor='NoNormBiasDecayConstructor',
            accumulative_counts=PASSES, clip_grad=dict(max_norm=1.0),
            optimizer=dict(type='AdamW', lr=4e-5, weight_decay=0.05, fused=True)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1000),
            checkpoint=dict(type='CheckpointHook', interval=STEPS * PASSES, by_epoch=False)),
        custom_hooks=[dict(type='StageCheckpointHook'), dict(type='KeepLosses')],
        model_wrapper_cfg=dict(
            type='mvp_mm.MVPDistributedDataParallel', broadcast_buffers=False),
        load_from=str(folder / 'start.pth'), log_level='ERROR',
        log_processor=dict(by_epoch=False),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        randomness=dict(seed=0), experiment_name=f'{name}{os.getpid()}'))
    cfg.merge_from_dict(changes)
    return cfg


def run(cfg: Config) -> tuple[Runner, list[dict[str, float]], list[float]]:
    """Train; the runner, and the losses and norms of this process."""
    runner = RUNNERS.build(cfg)
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, KeepLosses))
    return runner, hook.losses, hook.norms
