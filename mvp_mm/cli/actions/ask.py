# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions to a model about images, answered on the screen and in files."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvp_mm.cli.command import reported
from mvp_mm.utils.atomic import write_text

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


def list_images(names: Sequence[str]) -> list[Path]:
    """List the images that files, folders and patterns mean, each once.

    Raises:
        FileNotFoundError: If a name means no image.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            images = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        elif path.is_file():
            images = [path]
        else:
            root = Path(path.anchor or '.')
            pattern = str(path.relative_to(path.anchor)) if path.anchor else name
            images = sorted(root.glob(pattern)) if any(c in name for c in '*?[') else []
        if not images:
            raise FileNotFoundError(f'{name}: {"no image in it" if path.is_dir() else "no image"}')
        found.update(dict.fromkeys(images))
    return list(found)


def ask_model(images: Sequence[str], model: dict[str, Any], question: dict[str, Any],
              out: Path) -> None:
    """Ask, print every answer, and write its picture and its JSON.

    Args:
        images: Names of files, folders, or patterns.
        model: Arguments of ``MVP``.
        question: Arguments of its call.
        out: Folder for the files.

    Raises:
        Failure: If an image, the model or the question is wrong.
    """
    with reported(OSError, ValueError):
        paths = list_images(images)
        from mvp_mm import MVP
        sentences = question['text']
        if sentences and len(sentences) == 1:
            question = dict(question, text=sentences[0])
        asked = paths if len(paths) > 1 else paths[0]
        answers = MVP(**model)(asked, **question)
        if len(paths) == 1 and not (sentences and len(sentences) > 1):
            answers = [answers]
        out.mkdir(parents=True, exist_ok=True)
        per_image = len(answers) // len(paths)
        for number, answer in enumerate(answers):
            path = paths[number // per_image]
            picture = free_name(out, f'{path.stem}_{answer.task}')
            answer.save(picture)
            write_text(picture.with_suffix('.json'),
                       json.dumps(answer.to_dict(), indent=1, ensure_ascii=False) + '\n')
            asked_for = f' "{sentences[number % per_image]}"' if sentences else ''
            print(f'{path}{asked_for}: {answer.task}')
            print('\n'.join(f'  {line}' for line in describe(answer)))
            print(f'  written: {picture}, {picture.with_suffix(".json").name}')


def free_name(folder: Path, stem: str) -> Path:
    """Return a name for a picture that, with .json too, is not taken in a folder."""
    number = 1
    while True:
        path = folder / (f'{stem}.png' if number == 1 else f'{stem}_{number}.png')
        if not path.exists() and not path.with_suffix('.json').exists():
            return path
        number += 1


def describe(answer: Any) -> list[str]:
    """Tell an answer in lines: the caption, then every object or segment."""
    lines = [f'caption: {answer.caption}'] if answer.caption else []
    for label, score, box in zip(answer.labels, answer.scores, answer.boxes, strict=True):
        corners = ', '.join(f'{float(value):.0f}' for value in box)
        lines.append(f'{label}  {float(score):.2f}  [{corners}]')
    if answer.segments is not None:
        segment_map, segments = answer.segments
        for segment in segments:
            share = 100 * float((segment_map == segment['id']).sum()) / segment_map.size
            lines.append(f'{segment["label"]}  {share:.1f} % of the image')
    return lines or ['nothing found']
