# Copyright (c) mvp_mm authors. All rights reserved.
"""Times answers to made-up questions, before and after each acceleration."""
from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mvp_mm.analysis.gpu_figures import median_ms, profile_of, relative
from mvp_mm.analysis.synthetic_batch import make_samples
from mvp_mm.models.acceleration import accelerate_answers
from mvp_mm.models.connectors import connect
from mvp_mm.models.image_prefix import ImagePrefixes
from mvp_mm.models.language import append_tokens
from mvp_mm.models.mvp_lm import MVPLM
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.structures import PerceptionDataSample


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

    def _perceive(self, state: ImageState, samples: list, thinking: bool) -> dict[str, Tensor]:
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
        ms = median_ms(lambda: self.answer(images, samples, thinking), self.device, times,
                       warm=1 if thinking else 2)
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
                'connector': lambda: connect(model.connector, features),
                'pixel decoder': lambda: model.pixel_decoder(features, extent),
                'LLM, prompt': lambda: model.forward_llm(state, batch),
                'perception': lambda: model.perception.predict(
                    state, batch, language.text, language.summary)}
            return {name: median_ms(run, self.device, self.times) for name, run in parts.items()}

    def profile(self, count: int) -> dict[str, Any]:
        """Tell what takes an answer's time on the device."""
        images, samples = self.images(count), self.samples(count)
        return profile_of(lambda: self.answer(images, samples), self.device)

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
