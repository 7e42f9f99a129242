# Copyright (c) mvp_mm authors. All rights reserved.
"""Times training steps and answers of a model on one GPU, before and after each acceleration."""
from __future__ import annotations

import copy
import gc
import json
import statistics
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.analysis.synthetic_batch import make_samples
from mvp_mm.analysis.training_step import MadeUpStep
from mvp_mm.models.acceleration import accelerate_answers, accelerate_training
from mvp_mm.models.acceleration.training import REGIONS, compiled_regions
from mvp_mm.models.image_prefix import ImagePrefixes
from mvp_mm.models.language import append_tokens
from mvp_mm.models.mvp_lm import MVPLM
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.structures import PerceptionDataSample


@dataclass
class Figures:
    """Results by section, written after each.

    Attributes:
        path: The JSON file.
        deadline: When no section may start any more, by :func:`time.monotonic`.
        results: What has been found.
    """

    path: Path
    deadline: float
    results: dict[str, Any] = field(default_factory=dict)

    def section(self, name: str, run: Callable[[], dict[str, Any]], least: float = 5.0) -> None:
        """Run a section; a failure is noted and loses no other section.

        Args:
            name: Its name in the results.
            run: Computes it.
            least: Seconds that must be left for it to start.
        """
        start = time.monotonic()
        if self.deadline - start < least:
            found: dict[str, Any] = dict(skipped=f'{self.deadline - start:.0f} s left')
        else:
            try:
                found = run()
            except Exception as error:  # noqa: BLE001  whatever fails, the rest goes on
                text = ''.join(traceback.format_exception(error, limit=-6))
                found = dict(error=f'{type(error).__name__}: {error}'[:500], trace=text[-3000:])
                _free_memory()
        found['section_seconds'] = round(time.monotonic() - start, 2)
        self.results[name] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.results, indent=1))
        shown = {k: v for k, v in found.items() if k != 'trace'}
        print(f'{name}: {json.dumps(shown)}', flush=True)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def median_ms(run: Callable[[], Any], device: torch.device, times: int, warm: int = 2) -> float:
    """Median milliseconds of a call that is waited for."""
    seconds = []
    for number in range(warm + times):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if number >= warm:
            seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 3)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference, relative to the norm of the second."""
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp(min=1e-12)).item()


@contextmanager
def counted_waits() -> Iterator[Counter]:
    """Count where the host waits for CUDA, by file and line."""
    found: Counter = Counter()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            yield found
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for item in caught:
        if 'synchroniz' in str(item.message).lower():
            found[f'{Path(item.filename).name}:{item.lineno}'] += 1


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
        _wait(self.device)
        seconds = round(time.monotonic() - start, 1)
        return dict(self.time(), first_step_seconds=seconds, regions=regions, parity={
            name: relative(after[name], before[name]) for name in before})

    def plain(self) -> None:
        """Undo :meth:`accelerated`."""
        torch.set_float32_matmul_precision('highest')
        vars(self.step.model.encoder.backbone).pop('forward', None)
        for module in compiled_regions(self.step.model, REGIONS):
            module._compiled_call_impl = None

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


class AnswerFigures:
    """Times answers to made-up questions.

    Args:
        model: In eval mode on its device.
        side: Side of the canvas.
        dtype: Precision under autocast.
        words: Names in the word list.
        times: Calls timed.
        tokens: Tokens that a response is made to have.
    """

    def __init__(self, model: MVPLM, side: int, dtype: torch.dtype, words: int, times: int,
                 tokens: int) -> None:
        self.model, self.side, self.dtype = model, side, dtype
        self.words, self.times, self.tokens = words, times, tokens
        self.device = next(model.parameters()).device
        visual = model.tokenizer.num_visual_tokens
        # In place of the tokenizer's, so that no tokenizer is needed.
        model.ending = [*range(5), model.per_id]
        model.tokenizer = SimpleNamespace(
            eos_id=-2, vocab_size=model.llm.vocab_size - 1, num_visual_tokens=visual)
        model.max_response_tokens = tokens

    def accelerated(self, low_precision: bool, graphs: bool) -> AnswerFigures:
        """Copy the model with weights in low precision, captured graphs, or both."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        accelerate_answers(other.model, self.dtype if low_precision else None, graphs)
        return other

    def samples(self, count: int, sentence: bool = False) -> list[PerceptionDataSample]:
        """One question about each of so many images."""
        found = make_samples(count, int(sentence), self.side,
                             self.model.tokenizer.num_visual_tokens, self.model.llm.vocab_size,
                             self.words)
        return found[1::2] if sentence else found

    def images(self, count: int) -> Tensor:
        """Random images."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, 3, self.side, self.side, generator=generator).to(self.device)

    @torch.no_grad()
    def answer(self, images: Tensor, samples: list, thinking: bool = False) -> dict[str, Tensor]:
        """From images to boxes, masks and similarities."""
        with self._autocast():
            state = self.model.encode(images, samples)
            return self._perceive(state, samples, thinking)

    def _perceive(self, state: Any, samples: list, thinking: bool) -> dict[str, Tensor]:
        model = self.model
        batch = InstructionBatch.collate(samples, self.device)
        if thinking:
            language = model.generate_then_read(state, batch)
        else:
            _, language = model.forward_llm(state, append_tokens(batch, model.ending))
        logits, boxes, masks = model.perception.predict(
            state, batch, language.text, language.summary)
        return dict(memory=state.memory, text=language.text, summary=language.summary,
                    logits=logits, boxes=boxes, masks=masks)

    def time(self, count: int, thinking: bool = False) -> dict[str, Any]:
        """Time answers about so many images at once."""
        images, samples = self.images(count), self.samples(count)
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
        times = max(2, self.times // 4) if thinking else self.times
        ms = median_ms(lambda: self.answer(images, samples, thinking), self.device, times)
        found = dict(ms=ms, images_per_second=round(1000 * count / ms, 2))
        if thinking:
            found['tokens'] = self.tokens
        if self.device.type == 'cuda':
            found['gib'] = round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)
        return found

    def time_tokens(self, count: int) -> dict[str, Any]:
        """Milliseconds per token of a response, from responses of two lengths."""
        images, samples = self.images(count), self.samples(count)
        seconds = []
        for tokens in (self.tokens // 2, self.tokens):
            self.model.max_response_tokens = tokens
            seconds.append(median_ms(lambda: self.answer(images, samples, True), self.device,
                                     max(2, self.times // 4), warm=1))
        return dict(ms_per_token=round((seconds[1] - seconds[0]) / (self.tokens / 2), 3))

    @torch.no_grad()
    def time_further_question(self) -> dict[str, Any]:
        """Time a sentence about an image that is held with its prefix, thinking off."""
        samples = self.samples(1, sentence=True)
        with self._autocast():
            state = self.model.encode(self.images(1), samples)
            state.prefixes = ImagePrefixes()
            ms = median_ms(lambda: self._perceive(state, samples, False), self.device, self.times)
        return dict(ms=ms)

    @torch.no_grad()
    def time_parts(self, count: int) -> dict[str, Any]:
        """Latency by part; each is waited for."""
        model, images, samples = self.model, self.images(count), self.samples(count)
        batch = append_tokens(InstructionBatch.collate(samples, self.device), model.ending)
        with self._autocast():
            features = model.encoder(images)
            extent = torch.ones(count, 2, device=self.device)
            state = model.encode(images, samples)
            _, language = model.forward_llm(state, batch)
            parts: dict[str, Callable[[], Any]] = {
                'encoder': lambda: model.encoder(images),
                'connector': lambda: model.connector(features[-1]),
                'pixel decoder': lambda: model.pixel_decoder(features, extent),
                'LLM, prompt': lambda: model.forward_llm(state, batch),
                'perception': lambda: model.perception.predict(
                    state, batch, language.text, language.summary)}
            return {name: median_ms(run, self.device, self.times) for name, run in parts.items()}

    def parity(self, other: AnswerFigures, count: int = 1) -> dict[str, float]:
        """Relative difference of another model's answers from those of this one."""
        images, samples = self.images(count), self.samples(count)
        theirs, ours = (x.answer(images, samples) for x in (self, other))
        again = other.answer(images, samples)
        found = {name: relative(ours[name], theirs[name]) for name in ours
                 if name != 'logits'}
        found['second_call'] = max(relative(again[n], ours[n]) for n in ('memory', 'text', 'boxes'))
        return found

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype)
