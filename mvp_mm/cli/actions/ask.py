# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions to a model about images, answered on the screen and in files."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvp_mm.cli.command import reported
from mvp_mm.utils.cores import usable_cores, wanted_threads
from mvp_mm.utils.named_weights import find_weights
from mvp_mm.utils.terminal import say_busy

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
# Pictures that are drawn at a time: each takes several times the memory of its image.
_MOST_DRAWING = 4


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
            raise FileNotFoundError(f'{name}: {_why_none(path, name)}')
        found.update(dict.fromkeys(images))
    return list(found)


def _why_none(path: Path, name: str) -> str:
    if path.is_dir():
        return 'no image in it'
    if '://' in name:
        return 'no image of this computer; download it first'
    return 'no image matches the pattern' if any(c in name for c in '*?[') else (
        'no image file of that name')


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
        if out.exists() and not out.is_dir():
            raise FileExistsError(f'--out {out} is a file, not a folder')
        find_weights(model['source'])
        say_busy('loading PyTorch and the model')
        from mvp_mm import MVP
        from mvp_mm.apis.many_images import map_in_order
        asked = MVP(**model)
        sentences = question['text']
        per_image = len(sentences or [None])
        # A few at a time: a folder's answers need not fit into memory, and those given are kept.
        answers = asked.stream(paths, progress=False, **question)
        named = ((answer, answer.take_name(out)) for answer in answers)
        threads = min(_MOST_DRAWING, wanted_threads() or usable_cores())
        for number, (answer, files) in enumerate(map_in_order(_save, named, threads, threads)):
            sentence = f' "{sentences[number % per_image]}"' if sentences else ''
            reason = f' ({answer.reason})' if answer.reason else ''
            print(f'{paths[number // per_image]}{sentence}: {answer.task}{reason}')
            print('\n'.join(f'  {line}' for line in describe(answer)))
            print(f'  written: {", ".join(map(str, files))}', flush=True)


def _save(named: tuple[Any, Path]) -> tuple[Any, list[Path]]:
    answer, name = named
    return answer, answer.save_both(name)


def describe(answer: Any) -> list[str]:
    """Tell an answer in lines: the caption, then every object or segment."""
    lines = [f'caption: {answer.caption}'] if answer.caption else []
    if answer.segments is not None:
        segment_map, segments = answer.segments
        for segment in segments:
            share = 100 * float((segment_map == segment['id']).sum()) / segment_map.size
            lines.append(f'{segment["label"]}  {share:.1f} % of the image')
    else:
        for label, score, box in zip(answer.labels, answer.scores, answer.boxes, strict=True):
            corners = ', '.join(f'{float(value):.0f}' for value in box)
            lines.append(f'{label}  {float(score):.2f}  [{corners}]')
    if len(answer) and not answer.found:
        lines.append(f'not found: this best guess scores below {answer.found_thr:g}')
    return lines or ['nothing found']
