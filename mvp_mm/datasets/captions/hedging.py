# Copyright (c) mvp_mm authors. All rights reserved.
"""Finds words by which a captioner guesses instead of describing (might, seems, …)."""
from __future__ import annotations

import re

_HEDGES = (
    r'might(?:n\'t)?', r'impl(?:y|ies|ied|ying|icates?|ications?)', r'suggest(?:s|ed|ing|ive)?',
    r'suggestions? (?:of|that)', r'perhaps', r'maybe', r'(?:im)?probabl[ey]', r'possibl[ey]',
    r'possibilit(?:y|ies)', r'presum(?:e|es|ed|ing|abl[ey])', r'potential(?:ly)?',
    r'(?:un)?likely', r'could(?:n\'t)?', r'seem(?:s|ed|ing|ingly)?', r'appear(?:s|ed|ing)? to',
    r'appear(?:s|ed|ing)? (?:as (?:if|though)|that)', r'apparently', r'supposedly',
    r'assum(?:e|es|ed|ing)',
    r'speculat(?:e|es|ed|ing|ions?|ive)', r'hint(?:s|ed|ing)? (?:at|that)', r'infer(?:s|red|ring)?',
    r'believed to', r'it is (?:unclear|uncertain|not clear)', r'indicat(?:e|es|ed|ing|ions?|ive)')
_HEDGE = re.compile(rf"\b(?:{'|'.join(_HEDGES)})\b", re.IGNORECASE)
# How the words of all patterns here begin: most sentences have none and need no closer look.
_STEMS = (
    'might', 'impl', 'suggest', 'perhaps', 'may', 'probab', 'improbab', 'possib', 'presum',
    'potential', 'likely', 'unlikely', 'could', 'seem', 'appear', 'apparently', 'supposedly',
    'assum', 'speculat', 'hint', 'infer', 'believed', 'unclear', 'uncertain', 'clear', 'indicat',
    'look')
_LETTERS = re.compile('[a-z]+')
_GUESS_AT_START = re.compile(
    r'\W*(?:it|this|that|there) looks? (?:like|as (?:if|though))\b', re.IGNORECASE)

# Signs and instruments do indicate.
_INDICATED = re.compile(r'indicat(?:e|es|ed|ing)\b', re.IGNORECASE)
_INSTRUMENT = re.compile(
    r'\b(?:signs?|signboards?|signals?|arrows?|lights?|lamps?|clocks?|watch(?:es)?|meters?|'
    r'gauges?|dials?|hands?|markers?|markings?|labels?|screens?|displays?|boards?|maps?|text|'
    r'letters|words|numbers?|plaques?|plates?|stickers?|banners?|lines)\b(?:\W+\w+){0,4}\W+$',
    re.IGNORECASE)
# "with all his might".
_STRENGTH = re.compile(r'\b(?:all|his|her|their|its|my|your|our|the|of)\s+$', re.IGNORECASE)
_POSSIBLE_IDIOM = re.compile(r'\b(?:as \w+ as|best|all|wherever|whenever|if)\s+$', re.IGNORECASE)

_MAY = re.compile(r'\bmay\b', re.IGNORECASE)
_VERB_FOLLOWS = re.compile(r'\s+(?:not|also|have|be|well|or may not|\w+ly)\b', re.IGNORECASE)
_NO_VERB_BEFORE = re.compile(
    r'\b(?:in|of|on|by|with|for|from|at|since|until|till|during|early|late|mid|every|last|the|a|'
    r'april|\d+(?:st|nd|rd|th)?)[\s-]+$', re.IGNORECASE)
_MONTH_FOLLOWS = re.compile(
    r'\s*(?:\d|,\s*\d|day\b|of \d|queen\b|[/\u2013-]\s*(?:june?\b|\d))', re.IGNORECASE)
_NAME_FOLLOWS = re.compile(r"(?:'s|\s+(?:is|was|has|had))\b")


def _is_no_verb(sentence: str, start: int, end: int) -> bool:
    """Whether the "may" at a place is the month, a name or a slip rather than the verb."""
    word, before, after = sentence[start:end], sentence[:start], sentence[end:]
    if _VERB_FOLLOWS.match(after):
        return False
    if _NO_VERB_BEFORE.search(before) or _MONTH_FOLLOWS.match(after):
        return True
    # Inside a sentence the verb is not written with a capital.
    inside = bool(before.strip(' "\'('))
    return word == 'May' and (inside or bool(_NAME_FOLLOWS.match(after)))


def hedge_in(sentence: str) -> str:
    """The first word by which a sentence guesses, empty where it does not guess.

    Readings of instruments ("a sign indicating the exit"), the month of May, and set phrases
    such as "with all his might" do not count.
    """
    if not any(word.startswith(_STEMS) for word in _LETTERS.findall(sentence.lower())):
        return ''
    for match in _HEDGE.finditer(sentence):
        before, word = sentence[:match.start()], match[0]
        if _INDICATED.match(word) and _INSTRUMENT.search(before):
            continue
        if word.lower() == 'might' and _STRENGTH.search(before):
            continue
        if word.lower() == 'possible' and _POSSIBLE_IDIOM.search(before):
            continue
        return word
    for match in _MAY.finditer(sentence):
        if not _is_no_verb(sentence, *match.span()):
            return match[0]
    start = _GUESS_AT_START.match(sentence)
    return start[0].strip() if start else ''


def hedges(sentence: str) -> bool:
    """Whether a sentence guesses: holds ``might``, ``may``, ``indicates`` or their like."""
    return bool(hedge_in(sentence))
