# Copyright (c) mvp_mm authors. All rights reserved.
"""Collects the examples that the page offers."""
from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from pydantic import ValidationError

from mvp_mm.serving.errors import ServingError
from mvp_mm.serving.schema import Question
from mvp_mm.serving.uploads import check_image
from mvp_mm.utils.images import max_image_pixels

INDEX = 'examples.json'
_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')
_MOST = 12


@dataclass(frozen=True)
class Example:
    """An image and what may be asked about it.

    Attributes:
        path: The image file.
        words: Names, joined by commas; may be empty.
        text: A sentence; may be empty.
    """

    path: Path
    words: str = ''
    text: str = ''


def read_examples(source: Path) -> list[Example]:
    """Read the examples of a folder.

    Args:
        source: Folder of images. ``examples.json`` in it may say what to ask: a list of
            ``{"image": name, "words": [...]}`` or ``{"image": name, "text": "..."}``; without it
            the first 12 images are offered with no question.

    Raises:
        ValueError: If the folder or its index is not usable; names the file and the entry.
    """
    if not source.is_dir():
        raise ValueError(f'examples: no such folder: {source}')
    index = source / INDEX
    if index.is_file():
        examples = _read_index(index)
    else:
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in _ENDINGS)
        examples = [Example(file) for file in files[:_MOST]]
    if not examples:
        raise ValueError(f'examples: {source} has no image ({", ".join(_ENDINGS)})')
    for example in examples:
        try:
            check_image(example.path.read_bytes(), max_image_pixels())
        except (OSError, ServingError) as error:
            raise ValueError(f'examples: {example.path}: {error}') from error
    return examples


def _read_index(index: Path) -> list[Example]:
    try:
        entries = json.loads(index.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{index} is not valid JSON: {error}') from error
    if not isinstance(entries, list):
        raise ValueError(f'{index} must hold a list')
    examples = []
    for number, entry in enumerate(entries):
        where = f'{index}, entry {number}'
        name = entry.pop('image', None) if isinstance(entry, dict) else None
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f'{where}: image must be the name of a file beside it, got {name!r}')
        try:
            question = Question.model_validate(entry)
        except ValidationError as error:
            raise ValueError(f'{where}: {error.errors()[0]["msg"]}') from error
        examples.append(Example(index.parent / name, ', '.join(question.words or ()),
                                question.text or ''))
    return examples


def draw_examples(folder: Path, count: int = 4) -> list[Example]:
    """Draw pictures of the synthetic world with questions that are true of them.

    Args:
        folder: Where they are written.
        count: How many.
    """
    from mvp_mm.synthetic import THING_CLASSES, render_scene, sample_references, sample_scene

    examples = []
    for number in range(count):
        rng = Random(f'serving/{number}')
        scene = sample_scene(rng)
        path = folder / f'drawn_{number + 1}.png'
        pixels = render_scene(scene, np.random.default_rng(number))
        Image.fromarray(pixels).save(path)
        if number % 2:
            _, sentences = sample_references(scene, rng)[0]
            examples.append(Example(path, text=sentences[0].text))
        else:
            words = [*THING_CLASSES, *scene.stuff_areas]
            examples.append(Example(path, words=', '.join(words)))
    return examples


def copy_examples(examples: list[Example], folder: Path) -> list[Example]:
    """Copy the images, so that the page need not read outside of its folder."""
    copied = []
    for number, example in enumerate(examples):
        target = folder / f'{number + 1}_{example.path.name}'
        shutil.copyfile(example.path, target)
        copied.append(Example(target, example.words, example.text))
    return copied
