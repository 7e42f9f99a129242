# Copyright (c) mvp_mm authors. All rights reserved.
"""Cleaning of generated captions (paper section 3.2, data refinement)."""
from __future__ import annotations

import math
import re
from collections import Counter

from mvp_mm.registry import TASK_UTILS

_SENTENCE_END = re.compile(r'(?<=[.!?])\s+')
_WORD = re.compile(r"[\w'-]+")
_HEDGES = (
    r'indicat(?:e|es|ed|ing|ion|ions|ive)', r'might', r'impl(?:y|ies|ied|ying|ication|ications)',
    r'suggest(?:s|ed|ing|ion|ions|ive)?', r'perhaps', r'maybe', r'possib(?:le|ly|ility|ilities)',
    r'probabl[ey]', r'presum(?:e|es|ed|ing|ably)', r'potential(?:ly)?', r'likely', r'could',
    r'seem(?:s|ed|ing|ingly)?', r'appear(?:s|ed|ing)? to', r'assum(?:e|es|ed|ing)',
    r'speculat(?:e|es|ed|ing|ion|ive)', r'hint(?:s|ed|ing)? (?:at|that)')
_HEDGE = re.compile(rf"\b(?:{'|'.join(_HEDGES)})\b", re.IGNORECASE)
# Inside a sentence, "May" is the month.
_MAY = re.compile(r'(?:^May|\bmay)\b')


def hedges(sentence: str) -> bool:
    """Whether a sentence guesses: holds ``might``, ``may``, ``indicates`` or their like."""
    sentence = sentence.strip()
    return bool(_HEDGE.search(sentence) or _MAY.search(sentence))


def entropy_ratio(text: str) -> float:
    """Shannon entropy of the text's words, divided by that of as many different words.

    Returns:
        A number from 0 (one word over and over) to 1 (no word twice).
    """
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < 2:
        return 1.0
    total = len(words)
    entropy = -sum(n / total * math.log2(n / total) for n in Counter(words).values())
    return entropy / math.log2(total)


@TASK_UTILS.register_module()
class CaptionRefiner:
    """Drops meaningless captions and the sentences that guess.

    Args:
        min_words: Fewest words of a caption.
        min_entropy_ratio: Lowest :func:`entropy_ratio` of a caption.
    """

    def __init__(self, min_words: int = 3, min_entropy_ratio: float = 0.6) -> None:
        self.min_words = min_words
        self.min_entropy_ratio = min_entropy_ratio

    def __call__(self, caption: str) -> str:
        """The cleaned caption, empty where it is to be dropped."""
        sentences = _SENTENCE_END.split(' '.join(caption.split()))
        kept = ' '.join(s for s in sentences if not hedges(s))
        if len(_WORD.findall(kept)) < self.min_words:
            return ''
        return kept if entropy_ratio(kept) >= self.min_entropy_ratio else ''
