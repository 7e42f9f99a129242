# Copyright (c) mvp_mm authors. All rights reserved.
"""Checks the texts that a user asks with: word lists, stuff names and sentences."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mvp_mm.utils.texts import clean, is_encodable, is_visible, same_look, shown


def clean_text(text: Any, what: str) -> str:
    """Check a text and clean its white space.

    Args:
        text: What the caller gave.
        what: Its name in messages.

    Returns:
        The text, each run of white space replaced by one space.

    Raises:
        ValueError: If it is no string, cannot be encoded (lone surrogates) or shows nothing.
    """
    if not isinstance(text, str):
        raise ValueError(f'{what} must be a text, got {shown(text)} ({type(text).__name__})')
    if not is_encodable(text):
        raise ValueError(f'{what} is not valid text: {shown(text)} holds a lone surrogate')
    if not is_visible(text):
        raise ValueError(f'{what} is empty: {shown(text)}')
    return clean(text)


def check_names(names: Any, what: str) -> list[str]:
    """Clean a list of names that must differ from one another.

    Args:
        names: What the caller gave, a sequence of texts.
        what: Name of one of them in messages, such as ``'word'``.

    Raises:
        ValueError: If it is no sequence of texts, or a name is empty or repeated after cleaning.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise ValueError(f'a list of {what}s is asked for, got {shown(names)}')
    cleaned = [clean_text(name, f'{what} {number}') for number, name in enumerate(names, 1)]
    seen: dict[str, str] = {}
    for name in cleaned:
        key = same_look(name)
        if key in seen:
            raise ValueError(
                f'repeated {what}s: {shown(seen[key])} and {shown(name)} look the same')
        seen[key] = name
    return cleaned


def check_words(task: str, words: Any, text: str | None) -> list[str]:
    """Clean the word list of a question.

    Raises:
        ValueError: If a sentence came instead, or the list is no list of texts that are not
            empty and differ from one another; names the task.
    """
    if text is not None:
        raise ValueError(f'Task {task} takes a list of words, not a sentence: {shown(text)}; give '
                         'the phrases of it that name objects as words')
    try:
        cleaned = check_names([] if words is None else words, 'word')
    except ValueError as error:
        raise ValueError(f'Task {task}: {error}') from error
    if not cleaned:
        raise ValueError(f'Task {task} needs at least one word')
    return cleaned


def check_sentence(task: str, words: Sequence[str] | None, text: Any) -> str:
    """Clean the sentence of a question.

    Raises:
        ValueError: If words came instead, or the sentence is no text or empty; names the task.
    """
    if words is not None:
        raise ValueError(f'Task {task} takes a sentence, not a list of words: {shown(words)}')
    if text is None:
        raise ValueError(f'Task {task} needs a sentence')
    return clean_text(text, f'Task {task}: the sentence')
