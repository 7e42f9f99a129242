# Copyright (c) mvp_mm authors. All rights reserved.
"""Swaps left and right in texts, for horizontal flips; refuses texts where that may be wrong."""
from __future__ import annotations

import re
from functools import lru_cache

from mvp_mm.structures import ImageAnnotation, Referral

_SIDES = {'left': 'right', 'leftmost': 'rightmost', 'lefthand': 'righthand',
          'leftward': 'rightward', 'leftwards': 'rightwards', 'leftside': 'rightside'}
_SWAP = {**_SIDES, **{right: left for left, right in _SIDES.items()}}
_SIDE = re.compile(rf'\b({"|".join(_SWAP)})\b', re.IGNORECASE)
# The word is not, or may not be, about a side.
_RIGHT_BUT_NOT_A_SIDE = (
    r'\b(all|just|the|is|are|looks?|seems?|not|human) right\b(?= (away|now|way to|thing|answer|'
    r'time|size|moment|amount|of way))|'
    r'\bright[- ](above|across|after|against|along|angle|angled|around|as|at|away|before|behind|'
    r'below|beneath|beside|besides|between|by|down|here|inside|into|next|now|off|on|out|outside|'
    r'over|past|there|through|under|underneath|until|up|when|where|of way)\b|'
    r'\bright in (front|between|the middle|the center|the centre)\b|\b(all right|rights)\b')
_LEFT_BUT_NOT_A_SIDE = (
    r'\bleft[- ](over|overs|alone|behind|open|out|unattended|empty|untouched|uneaten|lying|'
    r'parked|sitting|standing|hanging|turned|off|after|by (?!the)|a|an|his|her|its|their|'
    r'some|no|nothing|in the (bowl|box|cup|glass|oven|pan|plate))\b|'
    r'\b(been|being|has|have|had|was|were|is|are|what\'s|whats|anything|nothing|one|food|pizza|'
    r'cake|slice|slices|piece|pieces|bite|bites|much|little|few|he|she|they|who|that|only) '
    r'left\b|\bleft (the|it|them|him|her)\b')
# What a mirror changes and swapping words does not: writing, digits, clock faces, compass and
# ship sides, letters as shapes or as short for a side, misspelt sides.
_NOT_MIRRORED = (
    r'\d|["“”]|\b(o\'?clock|clock|clocks|clockwise|counterclockwise|anticlockwise|'
    r'letters?|words?|text|texts|says?|saying|reads|reading|written|writing|spells?|spelling|'
    r'spelled|labell?ed|numbers?|numbered|numerals?|digits?|logos?|initials?|alphabet|'
    r'east|west|eastern|western|starboard|port side|'
    r'l|r|lt|rt|lft|rgt|rite|rhs|lhs|lh|rh|lef|leff|letf|rigth|rigt|rght|righ|'
    r'lefts|lefty|righty|leftest|rightest|izquierd[ao]|derech[ao])\b|\b[a-z][- ]shaped?\b')
_REFUSED = re.compile(
    f'{_RIGHT_BUT_NOT_A_SIDE}|{_LEFT_BUT_NOT_A_SIDE}|{_NOT_MIRRORED}', re.IGNORECASE)


def mirror_text(text: str) -> str | None:
    """Swap left and right in a text, whole words only.

    Args:
        text: English.

    Returns:
        The text about the mirrored image; None where that cannot be told for sure: the text may
        mean another "right" or "left", or speaks of writing, digits, clocks or letters, or holds
        letters that are not ASCII.
    """
    if not text.isascii() or _REFUSED.search(text):
        return None
    return _SIDE.sub(_swap, text)


def _swap(match: re.Match) -> str:
    word = match.group()
    other = _SWAP[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


@lru_cache(maxsize=64)
def _names_a_side(vocabulary: tuple[str, ...]) -> bool:
    return any(_SIDE.search(name) for name in vocabulary)


def mirror_annotation(annotation: ImageAnnotation) -> str:
    """Turn all texts of an annotation to the mirrored image, or none.

    Args:
        annotation: Changed in place if every text can be turned.

    Returns:
        The text that cannot be turned, empty if there is none.
    """
    if _names_a_side(annotation.vocabulary):
        return 'a class name that holds a side'
    texts = {referral.sentence for referral in annotation.referrals}
    texts.update(annotation.captions, (phrase for phrase, _ in annotation.caption_spans))
    mirrored = {}
    for text in sorted(texts):
        turned = mirror_text(text)
        if turned is None:
            return text
        mirrored[text] = turned
    annotation.referrals = [
        Referral(mirrored[r.sentence], r.targets, r.ref_id, r.sent_id, r.kind)
        for r in annotation.referrals]
    annotation.captions = [mirrored[caption] for caption in annotation.captions]
    annotation.caption_spans = [
        (mirrored[phrase], targets) for phrase, targets in annotation.caption_spans]
    return ''
