# Copyright (c) mvp_mm authors. All rights reserved.
"""Chooses the task of a question for which none is named; the rule of the Python guide."""
from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

# A list: short names with nothing between them. With an article or a relation it is a sentence.
_SEPARATOR = re.compile(r'[,;\n]')
_MOST_WORDS = 3
_SENTENCE_WORDS = frozenset((
    'a', 'an', 'the', 'that', 'this', 'these', 'those', 'which', 'who', 'whose', 'all', 'every',
    'each', 'both', 'any', 'some', 'no', 'of', 'in', 'on', 'at', 'to', 'from', 'with', 'without',
    'by', 'near', 'behind', 'under', 'over', 'above', 'below', 'beside', 'between', 'left',
    'right', 'front', 'next', 'wearing', 'holding', 'is', 'are', 'not'))
_MANY = re.compile(
    r'(?:all|every|each|both|any|some|no|several|many|two|three|four|five|six|seven|eight|nine|'
    r'ten|\d+)\b', re.IGNORECASE)
_CAPTION = re.compile(
    r'(?:please )?(?:describe|caption)(?: (?:the|this) (?:image|picture|photo|scene))?[.!?]?'
    r'|what (?:is|do you see) (?:in|on) (?:the|this) (?:image|picture|photo)\??', re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """What a question is taken for.

    Attributes:
        task: Name of the task.
        words: The word list, or None.
        text: The sentence, or None.
        reason: Why this task, in words.
    """

    task: str
    words: list[str] | None
    text: str | None
    reason: str


def choose_task(offered: Container[str], words: Sequence[str] | None = None,
                text: str | None = None, stuff: Sequence[str] | None = None,
                known: Mapping[str, bool] | None = None) -> Choice:
    """Choose the task of a question.

    1. A text that asks for a description ("describe the image") is ``caption``.
    2. A text of short names between commas ("person, ski pole") is a list of words: parts of at
       most three words without an article or a relation such as "of", "left" or "wearing".
    3. Words among which some are stuff (named as such, or known as such) are ``panoptic``, other
       words ``instance``, or ``detection`` where the model offers boxes only.
    4. A sentence that begins with "all", "every", "both", "any", "no", a number and so on means
       any number of objects: ``generalized_referring``.
    5. Every other sentence means one object: ``referring_segmentation``, or
       ``referring_comprehension`` where the model offers boxes only.

    Args:
        offered: Names of the model's tasks.
        words: A word list.
        text: A sentence.
        stuff: Which of the words are stuff.
        known: Whether a word is a thing, where class lists know it.

    Raises:
        ValueError: If there is nothing to choose by, or the model offers no such task.
    """
    if words is not None and text is not None:
        raise ValueError('Ask with words or with a text, not with both')
    if words is None and not isinstance(text, str):
        raise ValueError("Ask with words=[...], text='...' or task='caption'")
    if text is not None:
        text = text.strip()
        if _CAPTION.fullmatch(text):
            return _offered(offered, ['caption'], None, None, 'the text asks for a description')
        words = _list_in(text)
    if words is not None:
        return _choose_for_words(offered, list(words), stuff, known or {}, text is not None)
    assert text is not None  # neither a list nor nothing
    if _MANY.match(text):
        return _offered(offered, ['generalized_referring'], None, text,
                        'the sentence speaks of any number of objects')
    return _offered(offered, ['referring_segmentation', 'referring_comprehension'], None, text,
                    'the sentence means one object')


def _choose_for_words(offered: Container[str], words: list[str], stuff: Sequence[str] | None,
                      known: Mapping[str, bool], from_text: bool) -> Choice:
    what = 'the text is a list of names' if from_text else 'the words'
    named = [word for word in words if isinstance(word, str) and known.get(word) is False] \
        if stuff is None else list(stuff)
    if named and ('panoptic' in offered):
        return _offered(offered, ['panoptic'], words, None,
                        f'{what}, of which {", ".join(map(str, named))} is stuff'
                        if from_text else f'of the words, {", ".join(map(str, named))} is stuff')
    return _offered(offered, ['instance', 'detection'], words, None,
                    f'{what}, none of which is known as stuff' if from_text else
                    'no word is known as stuff')


def _list_in(text: str) -> list[str] | None:
    """The names of a text that is a list of them, else None."""
    parts = [part.strip() for part in _SEPARATOR.split(text.rstrip('.'))]
    parts = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if len(parts) < 2 and not _SEPARATOR.search(text):
        return None
    for part in parts:
        words = part.lower().split()
        if not 0 < len(words) <= _MOST_WORDS or not _SENTENCE_WORDS.isdisjoint(words):
            return None
    return parts


def _offered(offered: Container[str], tasks: Sequence[str], words: list[str] | None,
             text: str | None, reason: str) -> Choice:
    for task in tasks:
        if task in offered:
            return Choice(task, words, text, reason)
    raise ValueError(f'{reason[0].upper()}{reason[1:]}, but the model offers no task '
                     f'{" or ".join(tasks)}: name one with task=')
