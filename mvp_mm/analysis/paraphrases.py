# Copyright (c) mvp_mm authors. All rights reserved.
"""Rewords referring expressions by named rules.

A rule is a function from an expression to another of the same meaning, or to None where it does
not apply or the meaning is not sure to stay. All text is taken in lower case.
"""
from __future__ import annotations

import re
from collections.abc import Callable

_SIDES = 'left|right|top|bottom|front|back|middle'
_MOST = {'leftmost': 'furthest left', 'rightmost': 'furthest right', 'topmost': 'nearest the top',
         'bottommost': 'nearest the bottom'}
_RELATIONS = ('(?:(?:to|on|at|in) (?:the )?)?(?:left|right) of|above|over|below|under|beneath|'
              'next to|beside|behind|in front of')
# A place besides the one that a rule moves: then nothing tells which belongs to what.
_OTHER_PLACE = re.compile(
    rf'\b(?:{_SIDES}|{"|".join(_MOST)}|centre|center|upper|lower|above|over|below|under|underneath|'
    r'beneath|next|near|nearest|close|closest|beside|behind|between|by|against|across)\b')
# "over weight", "over there", "below average": no relation to another object.
_NO_RELATION = re.compile(
    r'\b(?:over|under|above|below)\b(?! (?:the|a|an|his|her|its|their|my|your|our|this|that|these|'
    r'those|another|one|two|three|both|all|some)\b)')
_PAIRS = [('man', 'guy'), ('men', 'guys'), ('woman', 'lady'), ('women', 'ladies'),
          ('kid', 'child'), ('kids', 'children'), ('couch', 'sofa'), ('tv', 'television'),
          ('bike', 'bicycle'), ('motorbike', 'motorcycle'), ('plane', 'airplane'),
          ('photo', 'picture'), ('big', 'large'), ('biggest', 'largest'), ('small', 'little'),
          ('beside', 'next to'), ('under', 'below'), ('over', 'above'), ('thing', 'object')]


def side_last(text: str) -> str | None:
    """"left man" → "man on the left"."""
    found = re.fullmatch(rf'(the )?({_SIDES}) (?!of\b|most\b|side\b|hand\b|in\b|to\b)(.+)', text)
    if not found or _OTHER_PLACE.search(found[3]):
        return None
    article, side, rest = found.groups()
    at = 'in' if side in ('front', 'back', 'middle') else (
        'at' if side in ('top', 'bottom') else 'on')
    return f'{article or ""}{rest} {at} the {side}'


def side_first(text: str) -> str | None:
    """"man on the left" → "left man"."""
    found = re.fullmatch(r'(the )?(.+) (?:on|at|in|to) (?:the )?(left|right|top|bottom)', text)
    if not found or _OTHER_PLACE.search(found[2]):
        return None
    return f'{found[1] or ""}{found[3]} {found[2]}'


def most_last(text: str) -> str | None:
    """"the leftmost star" → "the star furthest left"."""
    found = re.fullmatch(rf'(the )?({"|".join(_MOST)}) (.+)', text)
    if not found or _OTHER_PLACE.search(found[3]):
        return None
    return f'{found[1] or ""}{found[3]} {_MOST[found[2]]}'


def relation_first(text: str) -> str | None:
    """"the star above the car" → "above the car, the star"."""
    found = re.fullmatch(rf'((?!.*\b(?:and|or)\b).+?) ({_RELATIONS}) (.+)', text)
    if not found or _NO_RELATION.search(text) or any(
            _OTHER_PLACE.search(part) for part in (found[1], found[3])):
        return None
    return f'{found[2]} {found[3]}, {found[1]}'


def synonym(text: str) -> str | None:
    """Words such as man/guy, big/large, under/below for each other."""
    if _NO_RELATION.search(text):
        return None
    words = {**dict(_PAIRS), **{b: a for a, b in _PAIRS}}
    pattern = '|'.join(sorted(map(re.escape, words), key=len, reverse=True))
    changed = re.sub(rf'\b({pattern})\b', lambda m: words[m[1]], text)
    return changed if changed != text else None


def without_articles(text: str) -> str | None:
    """"the man in the hat" → "man in hat"."""
    changed = re.sub(r'\b(the|a|an) ', '', text)
    return changed if changed and changed != text else None


def with_article(text: str) -> str | None:
    """"man in red" → "the man in red"."""
    started = re.match(r'(the|a|an|all|both|his|her|their|my|one|two|three|no|someone|everybody|'
                       r'everyone|he|she|it|that|this|these|those|who|what)\b', text)
    return None if started else f'the {text}'


def passive(text: str) -> str | None:
    """"man in red" → "man in red that can be seen in the image"."""
    return f'{text} that can be seen in the image'


def request(text: str) -> str | None:
    """"man in red" → "please find man in red"."""
    return f'please find {text}'


RULES: dict[str, Callable[[str], str | None]] = {
    rule.__name__: rule for rule in (
        side_last, side_first, most_last, relation_first, synonym, without_articles, with_article,
        passive, request)}


def paraphrase(text: str, rule: str) -> str | None:
    """Reword an expression by one rule.

    Args:
        text: The expression.
        rule: Name of one of ``RULES``.

    Returns:
        The new expression, or None where the rule does not apply.
    """
    return RULES[rule](' '.join(text.lower().rstrip(' .').split()))
