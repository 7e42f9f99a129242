# Copyright (c) mvp_mm authors. All rights reserved.
"""Image captioning: the LLM alone answers (stage 1 of the paper's training)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mvp_mm.registry import TASKS
from mvp_mm.structures import (
    ImageAnnotation,
    Instruction,
    PerceptionDataSample,
    RawPrediction,
    Request,
)
from mvp_mm.tasks.base import BaseTask
from mvp_mm.tasks.prompts import caption_prompt, caption_response


@TASKS.register_module()
class CaptionTask(BaseTask):
    """Describes an image in words.

    In training one of the image's captions is drawn; an image without captions is not asked
    about. In evaluation every image is, with its captions as references.
    """

    name: ClassVar[str] = 'caption'
    kind: ClassVar[str] = 'caption'
    predicts_masks: ClassVar[bool] = False

    def instruct(self, annotation: ImageAnnotation, rng: np.random.Generator,
                 training: bool) -> list[Request]:
        """See :meth:`BaseTask.instruct`."""
        response = []
        if training:
            if not annotation.captions:
                return []
            caption = annotation.captions[rng.integers(len(annotation.captions))]
            response = caption_response(caption)
        return [self._request(response)]

    def _request(self, response: list) -> Request:
        return Request(
            Instruction(
                task=self.name, kind=self.kind, prompt=caption_prompt(), response=response))

    def ask(self, words: Sequence[str] | None = None, text: str | None = None) -> Request:
        """See :meth:`BaseTask.ask`; takes neither words nor a sentence."""
        if words is not None or text is not None:
            raise ValueError(f'Task {self.name} takes neither words nor a sentence, got '
                             f'words={words}, text={text!r}')
        return self._request([])

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
