# Copyright (c) mvp_mm authors. All rights reserved.
"""Times training steps of a made-up batch, before and after each acceleration."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.analysis.gpu_figures import counted_waits, median_ms, profile_of, relative, wait
from mvp_mm.analysis.training_step import MadeUpStep
from mvp_mm.models.acceleration import accelerate_training
from mvp_mm.models.acceleration.training import REGIONS, compiled_regions
from mvp_mm.models.llms.working_copies import WorkingCopies
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.structures import PerceptionDataSample


class TrainingFigures:
    """Times steps of a made-up batch.

    Args:
        step: The model, its optimizer and a batch.
        peak: The device's operations per second in the step's precision.
        times: Steps timed.
    """

    def __init__(self, step: MadeUpStep, peak: float, times: int) -> None:
        self.step, self.peak, self.times = step, peak, times
        self.device = step.images.device
        self.flops = 0.0

    def count_operations(self) -> dict[str, Any]:
        """Count the arithmetic of a step without what checkpointing computes again."""
        with FlopCounterMode(display=False) as counter:
            self.step.loss().backward()
        self.step.model.zero_grad()
        whole = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            self._states(language_alone=True)
        again = counter.get_total_flops() if self.step.model.llm.lm.is_gradient_checkpointing else 0
        self.flops = float(whole - again)
        return dict(tera_operations=self.flops / 1e12, recomputed=again / 1e12)

    def time(self) -> dict[str, Any]:
        """Time whole steps; tell images per second, share of the peak and memory."""
        self.step.run()
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
        ms = median_ms(self.step.run, self.device, self.times, warm=1)
        found = dict(ms=ms, images_per_second=round(1000 * len(self.step.images) / ms, 2))
        if self.flops:
            found['percent_of_peak'] = round(100 * self.flops / (ms / 1000) / self.peak, 2)
        if self.device.type == 'cuda':
            found['gib'] = round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)
        return found

    def waits(self) -> dict[str, Any]:
        """Count how often the host waits for the device in a step."""
        if self.device.type != 'cuda':
            return dict(skipped='no CUDA')
        with counted_waits() as found:
            self.step.run()
        return dict(waits=found.total(), where=dict(found.most_common(12)))

    def profile(self) -> dict[str, Any]:
        """Tell what takes a step's time on the device."""
        return profile_of(self.step.run, self.device)

    def without_checkpointing(self) -> dict[str, Any]:
        """Time steps that keep the LLM's activations."""
        with self._checkpointing(False):
            return self.time()

    def with_samples(self, samples: list[PerceptionDataSample]) -> dict[str, Any]:
        """Time steps of another batch."""
        kept, flops = self.step.samples, self.flops
        self.step.samples, self.flops = samples, 0.0
        try:
            return self.time()
        finally:
            self.step.samples, self.flops = kept, flops

    def accelerated(self, regions: tuple[str, ...], backend: str) -> dict[str, Any]:
        """Compile regions, with TF32 and a captured encoder; time steps and compare states."""
        start = time.monotonic()
        before = self._states()
        accelerate_training(self.step.model, regions, backend=backend)
        after = self._states()
        self.step.run()
        wait(self.device)
        seconds = round(time.monotonic() - start, 1)
        return dict(self.time(), first_step_seconds=seconds, regions=regions, parity={
            name: relative(after[name], before[name]) for name in before})

    def with_llm(self, bf16_weights: bool, sequence_packing: bool) -> dict[str, Any]:
        """Set how the LLM trains; time steps and compare states."""
        start = time.monotonic()
        before = self._states()
        self._set_llm(bf16_weights, sequence_packing)
        after = self._states()
        self.step.run()
        wait(self.device)
        seconds = round(time.monotonic() - start, 1)
        return dict(self.time(), first_step_seconds=seconds, parity={
            name: relative(after[name], before[name]) for name in before})

    def without_packing(self) -> None:
        """Run sequences apart by length again."""
        self.step.model.llm.sequence_packing = False

    def with_little_memory(self, keep_llm: bool = False) -> dict[str, Any]:
        """Time steps that recompute both decoders, and perhaps keep the LLM's activations."""
        parts = (self.step.model.pixel_decoder, self.step.model.perception.decoder)
        for part in parts:
            part.gradient_checkpointing = True
        try:
            with self._checkpointing(False) if keep_llm else nullcontext():
                return self.time()
        finally:
            for part in parts:
                part.gradient_checkpointing = False

    def plain(self) -> None:
        """Undo :meth:`accelerated` and :meth:`with_llm`."""
        self._set_llm(False, False)
        torch.set_float32_matmul_precision('highest')
        vars(self.step.model.encoder.backbone).pop('forward', None)
        for module in compiled_regions(self.step.model, REGIONS):
            module._compiled_call_impl = None

    def _set_llm(self, bf16_weights: bool, sequence_packing: bool) -> None:
        llm = self.step.model.llm
        if llm.copies is not None:
            llm.copies.drop()
        llm.copies = WorkingCopies(llm.lm) if bf16_weights else None
        llm.sequence_packing = sequence_packing

    def repeats(self) -> dict[str, Any]:
        """Whether loss and gradients of one batch are the same bits twice, and at what price."""
        found: dict[str, Any] = {}
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic, warn_only=True)
            try:
                first, second = self._gradients(), self._gradients()
                found['deterministic' if deterministic else 'default'] = dict(
                    same_loss=bool(first[0] == second[0]), different_gradients=sum(
                        not torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True)),
                    gradients=len(first[1]),
                    ms=median_ms(self._gradients, self.device, 2, warm=0))
            finally:
                torch.use_deterministic_algorithms(False)
        return found

    def _gradients(self) -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(0)
        self.step.model.zero_grad()
        loss = self.step.loss()
        loss.backward()
        grads = [p.grad for p in self.step.model.parameters() if p.grad is not None]
        self.step.model.zero_grad()
        return loss.detach(), grads

    def _states(self, language_alone: bool = False) -> dict[str, Tensor]:
        """Run the parts before the queries, with gradients, as in training."""
        model, device = self.step.model, self.device
        with self.step.autocast():
            batch = InstructionBatch.collate(self.step.samples, device, model.per_id)
            if language_alone:
                visual = torch.zeros(len(self.step.images), model.tokenizer.num_visual_tokens,
                                     model.llm.hidden_size, device=device)
                return dict(hidden=model.forward_llm(ImageState(visual), batch)[0].detach())
            state = model.encode(self.step.images, self.step.samples)
            _, language = model.forward_llm(state, batch)
        return {name: value.detach().clone() for name, value in dict(
            memory=state.memory, mask_features=state.mask_features, text=language.text,
            summary=language.summary).items()}

    @contextmanager
    def _checkpointing(self, on: bool) -> Iterator[None]:
        changed = [m for m in self.step.model.llm.modules()
                   if getattr(m, 'gradient_checkpointing', on) is not on]
        for module in changed:
            module.gradient_checkpointing = on
        try:
            yield
        finally:
            for module in changed:
                module.gradient_checkpointing = not on
