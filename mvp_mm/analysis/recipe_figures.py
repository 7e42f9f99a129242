# Copyright (c) mvp_mm authors. All rights reserved.
"""Tells what a training recipe takes: counted on a CPU, and on a GPU measured as well."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.analysis.training_figures import TrainingFigures
from mvp_mm.analysis.training_step import MadeUpStep

GIB = 2**30
# A float32 weight, its gradient and AdamW's two moments.
BYTES_PER_TRAINED_PARAMETER = 16
BYTES_PER_FROZEN_PARAMETER = 4


def count_recipe(build: Callable[[], Config]) -> dict[str, float]:
    """Count parameters, arithmetic and kept activations of a recipe's training step.

    Steps of one image and of two with made-up instructions run on the CPU, under the autocast of a
    GPU; what the second image adds is what an image takes.

    Args:
        build: Loads the config; called once per step.

    Returns:
        ``trained`` and ``frozen`` parameters in millions, ``images`` per forward pass and ``steps``
        of the optimizer, ``tera_operations`` per image (what checkpointing computes again
        included), ``activations_gib`` per image, and ``gib`` of a pass: weights, gradients,
        moments and activations. Temporary tensors and the optimizer's own are not in it.
    """
    cfg = build()
    found = [_step(build(), images) for images in (1, 2)]
    parameters = found[0][2]
    operations = found[1][0] - found[0][0]
    kept = [step[1] / GIB for step in found]
    images = cfg.train_dataloader.batch_size
    states = (BYTES_PER_TRAINED_PARAMETER * parameters[True]
              + BYTES_PER_FROZEN_PARAMETER * parameters[False]) / GIB
    return dict(trained=parameters[True] / 1e6, frozen=parameters[False] / 1e6, images=images,
                steps=cfg.train_cfg.max_iters, tera_operations=operations / 1e12,
                activations_gib=kept[1] - kept[0], states_gib=states,
                gib=states + kept[0] + (images - 1) * (kept[1] - kept[0]))


def _step(cfg: Config, images: int) -> tuple[float, float, dict[bool, int]]:
    """Operations, bytes kept for the backward pass, and parameters by whether they train."""
    step = MadeUpStep.build(cfg, images)
    weights = {p.untyped_storage().data_ptr() for p in step.model.parameters()}
    kept: dict[int, int] = {}
    # Storages stay alive with the graph, so that no address comes twice.
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and storage.data_ptr() not in kept:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = step.loss()
        loss.backward()
    count = {True: 0, False: 0}
    for parameter in step.model.parameters():
        count[parameter.requires_grad] += parameter.numel()
    return float(counter.get_total_flops()), float(sum(kept.values())), count


def hours(counted: dict[str, float], flops_per_second: float) -> dict[str, float]:
    """Turn counted arithmetic into a recipe's images per second and hours at a given rate."""
    rate = flops_per_second / (counted['tera_operations'] * 1e12)
    return dict(images_per_second=rate,
                hours=counted['steps'] * counted['total_batch_size'] / rate / 3600)


def measure_recipe(cfg: Config, peak: float, times: int = 8) -> dict[str, Any]:
    """Time a recipe's training step on the GPU at its own batch size: ms, images/s, GiB.

    Args:
        cfg: The config.
        peak: The device's operations per second in bfloat16.
        times: Steps timed.
    """
    step = MadeUpStep.build(cfg, device='cuda')
    return TrainingFigures(step, peak, times).time()
