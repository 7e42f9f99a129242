# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions to a model about images, answered on the screen and in files."""
from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mvp_mm.cli.command import FAILED, reported
from mvp_mm.utils.named_weights import find_weights
from mvp_mm.utils.terminal import say_busy

if TYPE_CHECKING:
    from mvp_mm.apis.answer import Answer
    from mvp_mm.apis.answers import AnswerFiles

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
        Failure: If an image, the model or the question is wrong, or a worker was killed.
    """
    with reported(OSError, ValueError), reported(ChildProcessError, status=FAILED):
        paths = list_images(images)
        if out.exists() and not out.is_dir():
            raise FileExistsError(f'--out {out} is a file, not a folder')
        find_weights(model['source'])
        # Python would search all that was imported for cycles before it ends, for over a second.
        atexit.register(gc.freeze)
        say_busy('loading PyTorch and the model')
        from mvp_mm import MVP
        asked = MVP(**model)
        sentences = question['text']
        per_image = len(sentences or [None])
        # One at a time: a folder's answers need not fit into memory, and those given are kept.
        answers = asked.stream(paths, progress=False, finish=draw, **question)
        for number, drawn in enumerate(answers):
            sentence = f' "{sentences[number % per_image]}"' if sentences else ''
            reason = f' ({drawn.reason})' if drawn.reason else ''
            print(f'{paths[number // per_image]}{sentence}: {drawn.task}{reason}')
            print('\n'.join(f'  {line}' for line in drawn.lines))
            files = drawn.files.write(out)
            print(f'  written: {", ".join(map(str, files))}', flush=True)


class DrawnAnswer(NamedTuple):
    """What is told and kept of an answer.

    Attributes:
        task: Name of the task that answered.
        reason: Why this task; empty where the caller named it.
        lines: The answer in lines.
        files: Its picture and its JSON.
    """

    task: str
    reason: str
    lines: list[str]
    files: AnswerFiles


def draw(answer: Answer) -> DrawnAnswer:
    """Draw an answer and tell it in lines."""
    return DrawnAnswer(answer.task, answer.reason, describe(answer), answer.to_files())


def describe(answer: Answer) -> list[str]:
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
        lines.append('not found, this is the best guess: ' + (
            f'its score is below {answer.found_thr:g}' if answer.presence_thr is None else
            f'that the sentence means anything here has a probability of {answer.presence:.2f}, '
            f'not above {answer.presence_thr:g}'))
    return lines or ['nothing found']
