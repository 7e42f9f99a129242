# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs a captioner in this process with Hugging Face transformers."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mvp_mm.captioning.backends import (
    Answer,
    CaptionerError,
    CaptionSampling,
    ImageError,
    load_image,
)


class TransformersBackend:
    """Generates captions in batches.

    Args:
        model: Folder of a model with its processor and chat template.
        prompt: What is asked about each image.
        sampling: How answers are drawn.
        batch_size: Images a call.
        device: Where it runs.
        dtype: Type of its weights, such as ``'bfloat16'``.

    Raises:
        CaptionerError: If the folder holds no such model.
    """

    name = 'transformers'
    concurrency = 1

    def __init__(self, model: str, prompt: str, sampling: CaptionSampling, batch_size: int = 8,
                 device: str = 'cpu', dtype: str = 'float32') -> None:
        self.model = model
        self.prompt = prompt
        self.sampling = sampling
        self.batch_size = batch_size
        self.settings: dict[str, Any] = dict(dtype=dtype)
        try:
            self._processor = AutoProcessor.from_pretrained(model)
            network = AutoModelForImageTextToText.from_pretrained(
                model, dtype=getattr(torch, dtype))
        except (OSError, ValueError, AttributeError) as error:
            raise CaptionerError(f'{model}: {error}') from error
        if not getattr(self._processor, 'chat_template', None):
            raise CaptionerError(f'{model} has no chat template')
        # Answers of one batch begin where its prompts end.
        self._processor.tokenizer.padding_side = 'left'
        self._network = network.to(device).eval()

    def caption(self, images: Sequence[Path]) -> list[Answer | Exception]:
        """See :class:`CaptionBackend`."""
        answers: list[Answer | Exception] = []
        loaded: list[Image.Image] = []
        for path in images:
            try:
                loaded.append(load_image(path, self.sampling.max_side)[0])
                answers.append(Answer(''))
            except ImageError as error:
                answers.append(error)
        written = iter(self._generate(loaded) if loaded else ())
        return [next(written) if isinstance(answer, Answer) else answer for answer in answers]

    def stop(self) -> None:
        """See :class:`CaptionBackend`; a batch under way is finished."""

    @torch.inference_mode()
    def _generate(self, images: list[Image.Image]) -> list[Answer]:
        chats = [[{'role': 'user', 'content': [{'type': 'image', 'image': image},
                                               {'type': 'text', 'text': self.prompt}]}]
                 for image in images]
        inputs = self._processor.apply_chat_template(
            chats, add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors='pt', processor_kwargs=dict(padding=True))
        inputs = inputs.to(self._network.device, self._network.dtype)
        if self.sampling.seed is not None:
            torch.manual_seed(self.sampling.seed)
        drawn = dict(do_sample=False)
        if self.sampling.temperature > 0:
            drawn = dict(do_sample=True, temperature=self.sampling.temperature,
                         top_p=self.sampling.top_p)
        output = self._network.generate(
            **inputs, max_new_tokens=self.sampling.max_tokens, **drawn)
        new = output[:, inputs['input_ids'].shape[1]:]
        texts = self._processor.batch_decode(new, skip_special_tokens=True)
        return [Answer(text.strip(), not self._ended(row))
                for text, row in zip(texts, new, strict=True)]

    def _ended(self, tokens: torch.Tensor) -> bool:
        """Whether an answer ended by itself, before the length limit."""
        ends = self._network.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return bool(torch.isin(tokens, torch.tensor(
            [end for end in ends if end is not None], device=tokens.device)).any())
