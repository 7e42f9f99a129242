# Copyright (c) mvp_mm authors. All rights reserved.
"""Defines what ``POST /predict`` takes and answers, with units."""
from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

MAX_WORDS, MAX_WORD_LENGTH, MAX_TEXT_LENGTH = 2000, 200, 2000

Word = Annotated[str, Field(min_length=1, max_length=MAX_WORD_LENGTH)]
Words = Annotated[list[Word], Field(max_length=MAX_WORDS)]


def _decode_base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError('must be a string in base64')
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError('is not base64') from error


Base64Image = Annotated[bytes, BeforeValidator(_decode_base64),
                        WithJsonSchema(dict(type='string', contentEncoding='base64'))]


class Question(BaseModel):
    """A question about an image: a list of words or one sentence."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    words: Words | None = Field(
        None, description='Names to look for. Either words or text, or neither for a caption.',
        examples=[['cat', 'sofa', 'floor']])
    text: str | None = Field(
        None, min_length=1, max_length=MAX_TEXT_LENGTH,
        description='One sentence that says what to find.',
        examples=['the cat on the left of the sofa'])
    stuff: Words | None = Field(
        None, description='Which of the words are stuff (amorphous regions such as grass or sky); '
        'the others are things. Without it the classes that the model knows decide.')
    task: str | None = Field(
        None, max_length=80, pattern=r'^\w+$',
        description='Name of a task of the model, such as panoptic, detection or '
        'referring_segmentation. Without it the question picks the task.')
    thinking: bool | None = Field(
        None, description='Let the language model write its caption before it perceives, which '
        'takes most of the time. Without it the model\'s configuration decides.')
    threshold: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False,
        description='Objects with lower scores are left out, 0 to 1. Without it the task decides.')

    @model_validator(mode='after')
    def _one_question(self) -> Question:
        if self.words is not None and self.text is not None:
            raise ValueError('give either words or text, not both')
        if self.words is not None and not self.words:
            raise ValueError('words is an empty list')
        if self.words is None and self.text is None and self.task is None:
            raise ValueError('give words, text or a task')
        return self

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's call; None is left out."""
        return {name: value for name in Question.model_fields
                if (value := getattr(self, name)) is not None}

    def key(self) -> tuple[Any, ...]:
        """Equal for questions that one forward pass can answer about several images."""
        return tuple(tuple(value) if isinstance(value, list) else value
                     for value in (getattr(self, name) for name in Question.model_fields))


class PredictRequest(Question):
    """A question with its image, as JSON."""

    image: Base64Image = Field(
        description='An image file (JPEG, PNG, WebP, BMP, TIFF or GIF), base64-encoded. Addresses '
        'and paths are not accepted. It is turned upright by its EXIF orientation first.')

    def question(self) -> Question:
        """The question alone."""
        return Question.model_construct(
            **{name: getattr(self, name) for name in Question.model_fields})


class Mask(BaseModel):
    """A bitmap as COCO run-length encoding (RLE), which pycocotools decodes."""

    size: tuple[int, int] = Field(description='[height, width] of the image in pixels.')
    counts: str = Field(description='Compressed runs, column by column.')


class FoundObject(BaseModel):
    """One object, or one region of a panoptic or semantic answer; regions do not overlap."""

    label: str = Field(description='The word, or the sentence.')
    score: float | None = Field(
        description='0 to 1; null for semantic regions, which have none.')
    box: tuple[float, float, float, float] = Field(
        description='[x1, y1, x2, y2] in pixels of the upright image, from its upper left corner.')
    mask: Mask | None = Field(None, description='Null where the task finds boxes only.')
    segment_id: int | None = Field(None, description='Number of a region; null for objects.')
    is_thing: bool | None = Field(
        None, description='Whether a region is a countable object (true) or stuff (false).')


class Seconds(BaseModel):
    """Where the time went, in seconds."""

    decode: float = Field(description='Decoding the image, and waiting to do so.')
    queue: float = Field(description='Waiting for the model after that.')
    model: float = Field(description='Forward pass of the whole batch.')
    total: float = Field(description='From the question to this answer.')


class PredictResponse(BaseModel):
    """An answer."""

    id: str = Field(description='Also the header X-Request-ID.')
    task: str = Field(description='The task that was done.')
    reason: str = Field(description='Why this task, where the question named none; else empty.')
    image_size: tuple[int, int] = Field(description='[height, width] of the upright image, pixels.')
    caption: str | None = Field(None, description='What the model wrote; null if it did not think.')
    found: bool = Field(description='False where there are no objects, or where a sentence '
                        'probably means nothing in the image: the object is a guess.')
    objects: list[FoundObject] = Field(description='Best score first.')
    batch_size: int = Field(description='Images in the forward pass that made this answer.')
    seconds: Seconds


class Refusal(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description='One line.')
    id: str = Field(description='Also the header X-Request-ID.')
