# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns the body of a request into an image file and a question; nothing in it is followed."""
from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from fastapi import Request
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from mvp_mm.serving.errors import ServingError, bad_question
from mvp_mm.serving.schema import MAX_WORDS, PredictRequest, Question
from mvp_mm.utils.images import decode_image

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')
LISTS = ('words', 'stuff')


async def read_request(request: Request) -> tuple[bytes, Question]:
    """Read a request in one of the two forms of ``POST /predict``.

    Args:
        request: ``application/json`` (:class:`~mvp_mm.serving.schema.PredictRequest`), or
            ``multipart/form-data`` with the file ``image`` and the fields of a
            :class:`~mvp_mm.serving.schema.Question`; lists repeat their field, or have commas.

    Returns:
        The content of the image file, and the question.

    Raises:
        ServingError: 415 for another type of content, 422 for anything wrong in it.
    """
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind == 'application/json':
        try:
            asked = PredictRequest.model_validate(_read_json(await request.body()))
        except ValidationError as error:
            raise bad_question(_first_fault(error)) from error
        return asked.image, asked.question()
    if kind == 'multipart/form-data':
        return await _read_form(request)
    raise ServingError(415, 'send application/json or multipart/form-data, not '
                       f'{kind[:80] or "a body without a type"!r}', 'question')


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_question('the body is not valid JSON') from error


async def _read_form(request: Request) -> tuple[bytes, Question]:
    try:
        # Room for one list of each kind and the single fields.
        async with request.form(max_files=1, max_fields=2 * MAX_WORDS + 8) as form:
            question = _question_of(form)
            image = form.get('image')
            if not isinstance(image, UploadFile):
                raise bad_question('image: must be a file')
            return await image.read(), question
    except (MultiPartException, HTTPException) as error:
        reason = getattr(error, 'detail', None) or getattr(error, 'message', '')
        raise bad_question(f'not a valid form: {reason}') from error


def _question_of(form: FormData) -> Question:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name == 'image':
            if isinstance(value, str) or 'image' in fields:
                raise bad_question('image: must be one file')
            fields['image'] = True
        elif not isinstance(value, str):
            raise bad_question(f'{name[:80]}: must not be a file')
        elif name in LISTS:
            fields.setdefault(name, []).extend(word.strip() for word in value.split(','))
        elif name in fields:
            raise bad_question(f'{name[:80]}: is given twice')
        else:
            fields[name] = value
    fields.pop('image', None)
    try:
        return Question.model_validate(fields)
    except ValidationError as error:
        raise bad_question(_first_fault(error)) from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = '.'.join(str(part) for part in fault['loc'])[:80]
    message = fault['msg'].removeprefix('Value error, ')
    return f'{place}: {message}' if place else message


def check_image(data: bytes, max_pixels: int) -> None:
    """Look at the header of an image file; nothing is decoded.

    Raises:
        ServingError: 415 if it is no image of :data:`FORMATS`, 413 if it has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise ServingError(413, f'the image has more than {max_pixels} pixels', 'size') from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise ServingError(415, 'the image is not a readable file of the formats '
                           f'{", ".join(FORMATS)}', 'image') from error
    if width * height > max_pixels:
        raise ServingError(413, f'the image has {width} x {height} pixels, more than '
                           f'{max_pixels}', 'size')


def decode(data: bytes) -> Image.Image:
    """Decode an image file that passed :func:`check_image`, upright, as RGB.

    Raises:
        ServingError: 415 if it is damaged.
    """
    try:
        return Image.fromarray(np.ascontiguousarray(decode_image(data, 'the image')[..., ::-1]))
    except ValueError as error:
        raise ServingError(415, str(error)[:300], 'image') from error
