# Copyright (c) mvp_mm authors. All rights reserved.
"""Rules for texts from files and callers: what is a text, what is empty, what looks the same."""
from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any

# Characters that show nothing: spaces, controls, format characters, fillers, lone surrogates.
_HIDDEN = (r'\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f'
           r'\u2028-\u202f\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb'
           r'\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff')
_VISIBLE = re.compile(f'[^{_HIDDEN}]')
_INVISIBLE = re.compile(f'(?!\\s)[{_HIDDEN}]')

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = _SHORT.maxset = 6
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """A value of a file in a message: as Python writes it, cut to a line, safe to print."""
    try:
        text = _SHORT.repr(value)
        return text if is_encodable(text) else ascii(text)
    except ValueError:
        # Python does not write out integers of more than 4300 digits.
        return 'a number of thousands of digits'


def named(ident: Any) -> str:
    """A record's id in a message: texts as they are where that is safe."""
    plain = isinstance(ident, str) and ident.isprintable() and 0 < len(ident) <= 80
    return ident if plain else shown(ident)


def is_encodable(text: str) -> bool:
    """Whether a string can be written as UTF-8; one with a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_visible(text: str) -> bool:
    """Whether a string shows anything: a character that is no space, control or filler."""
    return _VISIBLE.search(text) is not None


def is_text(value: Any) -> bool:
    """Whether a value is a string that can be encoded and shows something."""
    return isinstance(value, str) and is_visible(value) and is_encodable(value)


def are_plain(texts: Sequence[str]) -> bool:
    """Whether :func:`clean` and :func:`same_look` leave all texts as they are, for sure.

    A vocabulary of hundreds of names is looked at as one string, by a few passes over it.
    """
    lines = '\n'.join(('', *texts, ''))
    return (lines.isascii() and lines.count('\n') == len(texts) + 1
            and lines.replace('\n', '').isprintable()
            and not any(gap in lines for gap in ('\n\n', '  ', '\n ', ' \n')))


def clean(text: str) -> str:
    """A text without outer spaces, and with one space for every run of them."""
    return ' '.join(text.split())


def same_look(text: str) -> str:
    """A key that is equal for texts which a reader of a prompt cannot tell apart.

    Compatibility forms are composed (Unicode NFKC: one code for "é", "fi" for its ligature),
    invisible characters left out and spaces joined; case counts. The key is for comparing: texts
    themselves reach a model as they stand in their file, but for :func:`clean`.
    """
    if text.isascii() and text.isprintable():
        return clean(text)
    return clean(_INVISIBLE.sub('', unicodedata.normalize('NFKC', text)))
