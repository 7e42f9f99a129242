# Copyright (c) mvp_mm authors. All rights reserved.
"""Fill the figures of result files into Markdown pages, and find those that differ.

A block names its file and holds its own template in a comment, so that pages stay plain Markdown::

    <!-- figures results/tiny_model.json
    | PQ | {thinking/panoptic/panoptic/PQ} |
    -->
    | PQ | 84.1 |
    <!-- end figures -->

A name in braces is a path of keys through the file's ``figures``, or, beginning with a dot, through
the whole file (``{.commit:.7}``). Numbers have one decimal unless a format is given behind a colon.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r'<!-- figures (?P<file>\S+)\n(?P<template>.*?)\n-->\n(?P<text>.*?)'
                    r'<!-- end figures -->', re.DOTALL)
_NAME = re.compile(r'\{([^{}\n]+)\}')


def fill_in(text: str, root: str | Path) -> str:
    """Return a page with its blocks as their files have it.

    Args:
        text: The page.
        root: Folder that the files are named from.

    Raises:
        FileNotFoundError: If a file is missing.
        KeyError: If a file has no such figure.
    """
    def filled(match: re.Match[str]) -> str:
        path = Path(root) / match['file']
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such result file')
        content = json.loads(path.read_text(encoding='utf-8'))
        body = _NAME.sub(lambda name: _figure(content, name[1], path), match['template'])
        # A table begins behind an empty line; a sentence may go on.
        edge = '\n' if body.lstrip().startswith('|') else ''
        return (f'<!-- figures {match["file"]}\n{match["template"]}\n-->\n{edge}{body}\n{edge}'
                '<!-- end figures -->')
    return _BLOCK.sub(filled, text)


def result_files(text: str) -> Iterator[str]:
    """Iterate the files that a page's blocks name."""
    for match in _BLOCK.finditer(text):
        yield match['file']


def _figure(content: Mapping[str, Any], name: str, path: Path) -> str:
    key, _, form = name.partition(':')
    whole = key.startswith('.')
    value = _looked_up(content if whole else content['figures'], key[1:] if whole else key)
    if value is None or isinstance(value, Mapping):
        raise KeyError(f'{path}: no figure {key!r}')
    if isinstance(value, list):
        value = ', '.join(map(str, value)) or 'none'
    return format(value, form or ('.1f' if isinstance(value, float) else ''))


def _looked_up(node: Any, key: str) -> Any:
    """Walk a path of keys, which may have slashes of their own; None where it leads nowhere."""
    if not key:
        return node
    if not isinstance(node, Mapping):
        return None
    parts = key.split('/')
    for count in range(len(parts), 0, -1):
        head = '/'.join(parts[:count])
        if head in node and (found := _looked_up(node[head], '/'.join(parts[count:]))) is not None:
            return found
    return None
