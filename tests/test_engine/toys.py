# Copyright (c) mvp_mm authors. All rights reserved.
"""A toy model, data set and metric that let the engine run in milliseconds."""
from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mvp_mm.registry import DATASETS, HOOKS, METRICS, MODELS


@MODELS.register_module()
class ToyModel(BaseModel):
    """Answers every image with as many outputs as the image has instructions.

    With ``pretrained`` the encoder holds 3, as if read from there. ``noise`` is the strength of
    random numbers that are added to the output in training.
    """

    def __init__(self, width: int = 2, frozen: bool = False,
                 pretrained: str | None = None, noise: float = 0.0) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, width).requires_grad_(False)
        self.encoder.pretrained = pretrained
        if pretrained is not None:
            self.encoder.weight.fill_(3.0)
        self.head = nn.Linear(width, 1).requires_grad_(not frozen)
        self.noise = noise
        self.offset = 0.0
        self.broken_at: int | None = None
        self.steps = 0

    def forward(self, inputs, count=None, data_samples=None, mode='tensor'):
        values = torch.as_tensor(inputs, dtype=torch.float32)[:, None]
        out = self.head(self.encoder(values))
        if mode == 'predict':
            return [dict(value=float(value), part=part)
                    for value, parts in zip(inputs, count, strict=True) for part in range(parts)]
        out = out + self.noise * torch.randn_like(out)
        self.steps += 1
        scale = float('nan') if self.steps == self.broken_at else 1.0
        word, box = out.pow(2).mean() + self.offset, out.abs().mean() * scale
        return dict(loss_word=word, loss_box_l1=[box])


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    """Item i holds the number i and i % 3 instructions."""

    METAINFO = dict(name='toy')

    def __init__(self, size: int = 5, ann_file: str = '', data_root: str = '') -> None:
        self.size = size
        super().__init__(ann_file=ann_file, data_root=data_root, serialize_data=False)

    def load_data_list(self):
        return [dict(inputs=float(i), count=i % 3) for i in range(self.size)]

    def prepare_data(self, idx):
        item = self.get_data_info(idx)
        return dict(inputs=item['inputs'], count=item['count'])


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Counts the outputs and adds up their values."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results.extend(sample['value'] for sample in data_samples)

    def compute_metrics(self, results):
        return dict(count=len(results), total=float(sum(results)))


@METRICS.register_module()
class BrokenMetric(ToyMetric):
    """Cannot be computed, or cannot take a sample."""

    default_prefix = 'broken'

    def __init__(self, when: str = 'evaluate') -> None:
        super().__init__()
        self.when = when

    def process(self, data_batch, data_samples):
        super().process(data_batch, data_samples)
        if self.when == 'process':
            raise ValueError('a sample has no score')
        if self.when == 'index':
            raise IndexError('list index out of range')

    def compute_metrics(self, results):
        if self.when == 'divide':
            raise ZeroDivisionError('division by zero')
        raise ValueError('nothing can be computed')


@HOOKS.register_module()
class LoseNodeHook(Hook):
    """Kills the ranks of node 1 with ``kill -9``, and perhaps what started them, at iterations.

    It does so the first time that the run comes to an iteration.

    Args:
        folder: Where a file notes each iteration at which it was done.
        ranks_at: Iterations before which the rank is killed.
        node_at: Iterations before which torchrun is killed too.
    """

    def __init__(self, folder: str, ranks_at: list[int], node_at: list[int]) -> None:
        self.folder, self.ranks_at, self.node_at = Path(folder), ranks_at, node_at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        coming = runner.iter + 1
        note = self.folder / f'lost_at_{coming}'
        if os.environ.get('NODE_RANK') != '1' or note.exists():
            return
        if coming in self.ranks_at + self.node_at:
            note.touch()
            if coming in self.node_at:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends its process signals before iterations, the first time that the run comes to them.

    Args:
        folder: Where a file notes each iteration at which it was done.
        signals: Iterations, and the names of their signals.
    """

    def __init__(self, folder: str, signals: dict[int, str]) -> None:
        self.folder, self.signals = Path(folder), signals

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        coming = runner.iter + 1
        note = self.folder / f'signal_at_{coming}'
        if coming in self.signals and not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.Signals[self.signals[coming]])


def toy_loader(size: int = 5, **sampler) -> dict:
    """A data loader config over :class:`ToyDataset`."""
    sampler = sampler or dict(type='DefaultSampler', shuffle=False, round_up=False)
    return dict(
        batch_size=2, num_workers=0, dataset=dict(type='ToyDataset', size=size), sampler=sampler,
        collate_fn=dict(type='default_collate'))
