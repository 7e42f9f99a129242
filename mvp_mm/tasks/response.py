# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds what the LLM learns to write before the summary token (paper section 3.2, table 7)."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mvp_mm.structures import ImageAnnotation, Segment
from mvp_mm.tasks.prompts import RESPONSE_SETTINGS, perception_response

# 'auto' becomes one of the others.
SETTINGS = ('auto', *RESPONSE_SETTINGS)
MISSING_CAPTION = ('error', 'none', 'leave_out')


class ResponseBuilder:
    """Builds training responses in one of the paper's settings.

    Args:
        setting: ``'caption'`` (one of the image's captions), ``'existing'`` (names of the
            existing objects), ``'none'`` (the result alone), or ``'auto'``: ``'caption'`` where
            the dataset has captions, else ``'none'``.
        missing_caption: In the caption setting, what to do with an image without captions:
            ``'error'`` refuses the dataset when it is opened, ``'leave_out'`` leaves the image
            out, ``'none'`` gives it the response of the ``'none'`` setting.
    """

    def __init__(self, setting: str = 'auto', missing_caption: str = 'error') -> None:
        if setting not in SETTINGS:
            raise ValueError(f'response must be one of {SETTINGS}, got {setting!r}')
        if missing_caption not in MISSING_CAPTION:
            raise ValueError(
                f'missing_caption must be one of {MISSING_CAPTION}, got {missing_caption!r}')
        self.setting = setting
        self.missing_caption = missing_caption

    @property
    def needs_captions(self) -> bool:
        """Whether an image without captions is an error or left out."""
        return self.draws_captions and self.missing_caption != 'none'

    @property
    def draws_captions(self) -> bool:
        """Whether a response may be a caption of the image."""
        return self.setting in ('auto', 'caption')

    @property
    def captions_optional(self) -> bool:
        """Whether a dataset without any captions is answered without."""
        return self.setting == 'auto'

    def __call__(self, annotation: ImageAnnotation, existing: Sequence[str],
                 rng: np.random.Generator) -> list[Segment]:
        """Build one response.

        Args:
            annotation: The image's annotation.
            existing: Names of its objects.
            rng: Draws the caption.

        Raises:
            ValueError: If a caption is needed and the image has none.
        """
        if self.setting == 'none':
            return perception_response()
        if self.setting == 'existing':
            return perception_response(', '.join(existing))
        if annotation.captions:
            return perception_response(annotation.captions[rng.integers(len(annotation.captions))])
        if self.setting == 'caption' and self.missing_caption != 'none':
            raise ValueError(
                f'{annotation.source} has no caption: give its dataset a caption_store, or the '
                "task response='none' or missing_caption='none'")
        return perception_response()


def existing_names(annotation: ImageAnnotation) -> list[str]:
    """List the classes present in an image, crowds left out, each once."""
    labels = annotation.labels[(annotation.labels >= 0) & ~annotation.crowd]
    return [annotation.vocabulary[label] for label in dict.fromkeys(labels.tolist())]
