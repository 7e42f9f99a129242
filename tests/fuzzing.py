# Copyright (c) mvp_mm authors. All rights reserved.
"""Random damage to files, and what may become of a damaged file."""
from __future__ import annotations

import copy
import json
import random
import re
import resource
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mvp_mm.datasets.tolerant import TooManyBadSamples

NAN, INF = float('nan'), float('inf')
VALUES = [
    None, True, False, -1, 0, 1, 3.5, NAN, INF, -INF, 1e308, 1e-9, 1e6, 10**400, 2**31, 2**63,
    -2**63, 2**100, '', ' ', '\u200b', '0', '7', 'kite', 'kite \ud83d', '\0', '../x', 'é' * 3,
    [], {}, [[]], [0], [5, 5], [[1, 2, 3]], [[1, 1, 5, 1, 5, NAN]], [[1, 1, 9, 1, 9, '9']],
    [[0, 0, 1e6, 0, 1e6, 1e6]], [[0, 0, 1e300, 0, 5, 5]], [1, 2, 3, 4], [0, 0, -3, 5],
    dict(size=[20, 30], counts=[600]), dict(size=[20, 30], counts=[5]),
    dict(size=[20, 30], counts=[0, 10**8, 10**8]), dict(size=[20, 30], counts=[300, -10, 310]),
    dict(size=[20, 30], counts='PR'), dict(size=[20, 30], counts=''), dict(size=[20, 30], counts=7),
    dict(size=[30, 20], counts=[600]), dict(counts=[600]), [[[[[[[[1]]]]]]]]]
# How messages call a record, or say that there is none to call.
RECORD = re.compile(
    r'(image|annotation|category|reference|sentence|record|caption|line|segment|label) \S|number \d'
    r'|not valid JSON|no list of|top level|must have a list|is empty|no reference of split|no image'
    r'|class names|pickle|list of references|not UTF-8|not a readable|whole image|ends inside'
    r'|neither it nor|segment ids'
    r'|\(h, w\)|does not exist|without a|one channel|neither classes|no caption'
    r'|is there twice|the file (has|lacks|must)')
EXPECTED = (ValueError, OSError)


def random_path(rng: random.Random, content: Any) -> list:
    """Where to some value of nested lists and dicts."""
    path = []
    while isinstance(content, (dict, list)) and content and (not path or rng.random() > 0.2):
        key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(
            len(content))
        path.append(key)
        content = content[key]
    return path


def change_value(rng: random.Random, content: Any) -> list:
    """Change nested lists and dicts in one place, which is given back."""
    path = random_path(rng, content)
    if not path:
        return path
    for key in path[:-1]:
        content = content[key]
    key, how = path[-1], rng.random()
    if how < 0.15:
        del content[key]
    elif how < 0.25 and isinstance(content, list):
        content.append(copy.deepcopy(content[key]))
    elif how < 0.35:
        content[key] = [content[key]]
    elif how < 0.45 and type(content[key]) in (int, float):
        content[key] = content[key] * rng.choice([-1, 0.5, 1e3, 2**40])
    elif how < 0.5:
        content[key] = str(content[key])
    else:
        content[key] = rng.choice(VALUES)
    return path


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut, flip or insert bytes, or open more lists than a parser can."""
    place = rng.randrange(len(data) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1:]
    if kind == 2:
        return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]
    if kind == 3:
        return data[:place] + b'[' * 100_000 + data[place:]
    return b'\xef\xbb\xbf' + data


def attempt(run: Callable[[], Any], names: Iterable[str],
            expected: tuple[type[Exception], ...] = EXPECTED) -> tuple[str, Any]:
    """Run something that may meet bad input.

    Returns:
        ``right`` and what came out; ``named`` and the message of an error that names one of the
        files and a record; or what is wrong with the error.
    """
    try:
        return 'right', run()
    except (*expected, TooManyBadSamples) as error:
        text = str(error)
        if not any(name in text for name in names):
            return f'names no file: {type(error).__name__}: {text[:300]}', text
        known = RECORD.search(text) or isinstance(error, TooManyBadSamples)
        return ('named' if known else f'names no record: {text[:300]}'), text
    except BaseException:  # noqa: BLE001 - whatever else it is, it is what is looked for
        return f'raises {traceback.format_exc()[-900:]}', None


def limit_memory(spare: int) -> None:
    """Allow the process so many bytes more than it has."""
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, size + spare))


def report(outcomes: Iterable[tuple[str, str, str]]) -> None:
    """Print what went wrong, then the counts as JSON.

    Args:
        outcomes: What was damaged, what was done with it, and what became of it.
    """
    counts: Counter[str] = Counter()
    wrong = []
    for damaged, kind, outcome in outcomes:
        good = outcome in ('right', 'named')
        counts[f'{kind} {outcome if good else "neither"}'] += 1
        if not good:
            wrong.append(f'{damaged}: {kind}: {outcome}')
    print('\n'.join(wrong))
    print(json.dumps(dict(counts)))
