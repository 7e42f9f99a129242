# Copyright (c) mvp_mm authors. All rights reserved.
"""Defines the interface of captioners: their sampling, answers and errors."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from mvp_mm.utils.images import decode_with_header

PROMPT = 'Describe the image in detail.'


@dataclass(frozen=True)
class CaptionSampling:
    """How an answer is drawn.

    Attributes:
        max_tokens: Longest answer.
        temperature: 0 takes the most probable token each time.
        top_p: Share of probability that tokens are drawn from.
        seed: Seed of the drawing, None for none.
        max_side: Longer side to which larger images are shrunk, pixels; None leaves them.
    """

    max_tokens: int = 256
    temperature: float = 0.2
    top_p: float = 1.0
    seed: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f'need max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1, got '
                             f'{asdict(self)}')
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f'max_side={self.max_side} is not positive')


class Answer(NamedTuple):
    """What a captioner wrote.

    Attributes:
        text: The caption.
        cut: Whether it ran into the length limit.
    """

    text: str
    cut: bool = False


class ImageError(Exception):
    """This image cannot be captioned; asking again would not help."""


class UnavailableError(Exception):
    """The captioner did not answer; the image may be asked about later."""


class CaptionerError(Exception):
    """No image can be captioned: wrong address, key or model."""


class CaptionBackend(Protocol):
    """A captioner.

    Attributes:
        name: What manifests call the backend.
        model: Name or path of its model.
        settings: Whatever else decides the answers, as it stands in manifests.
        batch_size: Most images of one call.
        concurrency: Most calls at a time.
    """

    name: str
    model: str
    settings: dict[str, Any]
    batch_size: int
    concurrency: int

    def caption(self, images: Sequence[Path]) -> list[Answer | Exception]:
        """Caption images.

        Returns:
            For each image its caption, or why there is none: an :class:`ImageError` or an
            :class:`UnavailableError`.

        Raises:
            CaptionerError: If no image can be captioned.
        """

    def stop(self) -> None:
        """Make calls that are under way end soon."""


def load_image(path: Path, max_side: int | None) -> tuple[Image.Image, str]:
    """Read an image, turned as its EXIF orientation says, in RGB.

    Args:
        path: The file.
        max_side: See :class:`CaptionSampling`.

    Returns:
        The image, and the format of the file where the file shows the same to any reader; empty
        where the image was turned, converted or shrunk.

    Raises:
        ImageError: If the file is missing or no whole image.
    """
    try:
        pixels, header = decode_with_header(path.read_bytes(), str(path))
    except OSError as error:
        raise ImageError(f'{path}: {error}') from error
    except ValueError as error:
        raise ImageError(str(error)) from error
    kind = header.format if header.orientation == 1 and header.mode == 'RGB' else ''
    image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        kind = ''
    return image, kind
