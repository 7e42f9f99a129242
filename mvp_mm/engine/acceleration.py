# Copyright (c) mvp_mm authors. All rights reserved.
"""Asks for faster training steps in a config."""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine.hooks import unwrap
from mvp_mm.models.acceleration import accelerate_training
from mvp_mm.registry import HOOKS


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Compiles regions of the model and captures its frozen encoder before training starts.

    Results differ by rounding. The first steps take a minute or more, in which code is compiled.

    Args:
        compile: See :func:`~mvp_mm.models.acceleration.accelerate_training`.
        capture_encoder: Likewise.
        tf32: Likewise.
    """

    def __init__(self, compile: Sequence[str] = ('llm', 'pixel_decoder'),
                 capture_encoder: bool = True, tf32: bool = True) -> None:
        self.compile = tuple(compile)
        self.capture_encoder = capture_encoder
        self.tf32 = tf32

    def before_train(self, runner: Runner) -> None:
        """Accelerate the model, whose weights are loaded and on their device."""
        accelerate_training(unwrap(runner.model), self.compile, self.capture_encoder, self.tf32)
