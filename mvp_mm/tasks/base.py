# Copyright (c) mvp_mm authors. All rights reserved.
"""The interface of a task: the whole behaviour of one kind of question in one object."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mvp_mm.structures import ImageAnnotation, PerceptionDataSample, RawPrediction, Request


class BaseTask(ABC):
    """Turns annotations into questions and raw outputs into answers.

    A task owns no weights and no state between samples. It is used by the data pipeline
    (:meth:`instruct`), by the model (:meth:`decode`) and by the inferencer (:meth:`ask`).

    Attributes:
        name: Name in messages, metrics and on the command line.
        kind: ``'word'``, ``'sentence'`` or ``'caption'``: which similarity loss applies.
        predicts_masks: Whether answers carry masks.
        default_metric: Type of the metric that scores it.
        needs_captions: Whether training images must have captions.
        missing_caption: What then becomes of those without: ``'error'`` refuses the dataset,
            ``'leave_out'`` leaves them out.
        captions_optional: Whether a dataset that has no captions at all is answered without.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    predicts_masks: ClassVar[bool] = True
    default_metric: ClassVar[str] = ''
    needs_captions: bool = False
    missing_caption: str = 'error'
    captions_optional: bool = False

    @abstractmethod
    def instruct(self, annotation: ImageAnnotation, rng: np.random.Generator,
                 training: bool) -> list[Request]:
        """Make the instructions of one image.

        Args:
            annotation: What is known about the image.
            rng: Source of every random choice.
            training: In training, lists are shuffled, negatives and captions drawn; otherwise
                the outcome is fixed and the response is left for the LLM to write.

        Returns:
            Any number of requests, also none.
        """

    @abstractmethod
    def ask(self, words: Sequence[str] | None = None, text: str | None = None) -> Request:
        """Make a request from a user's words, for inference without annotations.

        Raises:
            ValueError: If the task needs the other kind of input.
        """

    @abstractmethod
    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """Write predictions, in the original image's frame, onto the data sample."""
