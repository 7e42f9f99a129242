# Copyright (c) mvp_mm authors. All rights reserved.
"""Cleans generated captions (paper section 3.2, data refinement)."""
from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mvp_mm.datasets.captions.hedging import hedge_in
from mvp_mm.registry import TASK_UTILS

# Why a caption is dropped.
DROP_REASONS = ('empty', 'refusal', 'hedging', 'cut off', 'too short', 'too long', 'repetitive',
                'garbled', 'duplicate')
# Why a sentence of a caption that stays is removed.
SENTENCE_REASONS = ('hedging', 'cut off', 'repeated')

_ABBREVIATION = re.compile(
    r'(?:\b(?:mr|mrs|ms|dr|st|jr|sr|vs|no|fig|approx|e\.g|i\.e|[a-z])\.)$', re.IGNORECASE)
_BOUNDARY = re.compile(r'(?<=[.!?])["\')\]]*\s+')
_PARAGRAPH = re.compile(r'\n\s*\n|\n\s*(?=[-*\u2022]\s|\d+[.)]\s)')
_WORD = re.compile(r"[\w'-]+")
_FINISHED = re.compile(r'[.!?]["\')\]]*$')
_REFUSAL = re.compile(
    r"\bas an ai\b|\bi(?:'m| am) (?:sorry|unable to)\b|"
    r"\bi (?:cannot|can't|can ?not) (?:see|view|access|assist|help|provide|describe|identify)\b|"
    r'\bno (?:image|picture|photo) (?:here|provided|given|attached|to (?:see|describe))\b',
    re.IGNORECASE)


@dataclass(frozen=True)
class Removal:
    """A sentence that was taken out of a caption.

    Attributes:
        sentence: Its text.
        reason: One of ``SENTENCE_REASONS``.
        evidence: The words that decided, where there are any.
    """

    sentence: str
    reason: str
    evidence: str = ''


@dataclass(frozen=True)
class Verdict:
    """What becomes of one caption.

    Attributes:
        text: The caption that stays, empty where it is dropped.
        reason: Why it is dropped, one of ``DROP_REASONS``; empty where it stays.
        detail: The figure or the words that decided.
        removals: Sentences taken out.
    """

    text: str
    reason: str = ''
    detail: str = ''
    removals: tuple[Removal, ...] = field(default=())

    @property
    def kept(self) -> bool:
        """Whether anything of the caption stays."""
        return not self.reason


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, white space collapsed; a blank line or a list mark ends one too."""
    sentences = []
    for paragraph in _PARAGRAPH.split(text):
        paragraph = ' '.join(paragraph.split())
        start = 0
        for boundary in _BOUNDARY.finditer(paragraph):
            piece = paragraph[start:boundary.end()].rstrip()
            if not _ABBREVIATION.search(piece):
                sentences.append(piece)
                start = boundary.end()
        if paragraph[start:]:
            sentences.append(paragraph[start:])
    return sentences


def normalise(text: str) -> str:
    """A text without case, punctuation and spacing: equal where captions say the same words."""
    folded = unicodedata.normalize('NFKC', text).casefold()
    return ' '.join(re.findall(r'\w+', folded))


def _entropy(counts: Counter) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def entropy_ratio(text: str) -> float:
    """Shannon entropy of the text's words, divided by that of as many different words.

    Returns:
        A number from 0 (one word over and over) to 1 (no word twice).
    """
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < 2:
        return 1.0
    return _entropy(Counter(words)) / math.log2(len(words))


def character_entropy(text: str) -> float:
    """Shannon entropy of the text's characters in bits, case and spaces left out."""
    characters = Counter(''.join(text.lower().split()))
    return _entropy(characters) if characters else 0.0


@TASK_UTILS.register_module()
class CaptionRefiner:
    """Drops meaningless captions and the sentences that guess.

    Args:
        min_words: Fewest words of a caption.
        max_words: Most words of a caption.
        min_entropy_ratio: Lowest :func:`entropy_ratio` of a caption; below, it repeats itself.
        max_character_entropy: Highest :func:`character_entropy` of a caption in bits; English
            has about 4.1, above is noise.
        hedging: Whether sentences that guess are removed.

    Raises:
        ValueError: If a lower bound is above its upper bound.
    """

    def __init__(self, min_words: int = 3, max_words: int = 300, min_entropy_ratio: float = 0.6,
                 max_character_entropy: float = 5.0, hedging: bool = True) -> None:
        if not 1 <= min_words <= max_words:
            raise ValueError(f'need 1 <= min_words <= max_words, got {min_words} and {max_words}')
        if not 0 <= min_entropy_ratio <= 1:
            raise ValueError(f'min_entropy_ratio={min_entropy_ratio} is not in [0, 1]')
        if max_character_entropy <= 0:
            raise ValueError(f'max_character_entropy={max_character_entropy} is not positive')
        self.min_words = min_words
        self.max_words = max_words
        self.min_entropy_ratio = min_entropy_ratio
        self.max_character_entropy = max_character_entropy
        self.hedging = hedging

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as they stand in manifests and reports."""
        return dict(vars(self))

    def __call__(self, caption: str) -> str:
        """The cleaned caption, empty where it is to be dropped."""
        return self.judge(caption).text

    def judge(self, caption: str, cut: bool = False) -> Verdict:
        """Judge one caption by itself.

        Args:
            caption: The text.
            cut: Whether the captioner ran into its length limit; an unfinished last sentence is
                then removed.
        """
        if not caption.strip():
            return Verdict('', 'empty')
        refusal = _REFUSAL.search(caption)
        if refusal:
            return Verdict('', 'refusal', refusal[0])
        kept, removals = self._sift(split_sentences(caption), cut)
        text = ' '.join(kept)
        if not text:
            return Verdict('', removals[-1].reason, removals[-1].evidence, removals)
        reason, detail = self._fault(text)
        return Verdict('' if reason else text, reason, detail, removals)

    def judge_image(self, captions: Sequence[str], cut: Sequence[bool] = ()) -> list[Verdict]:
        """Judge all captions of one image; of those that say the same, the first stays.

        Args:
            captions: The texts.
            cut: See :meth:`judge`; none was cut if not given.
        """
        cuts = cut or [False] * len(captions)
        verdicts: list[Verdict] = []
        first: dict[str, int] = {}
        for index, (caption, was_cut) in enumerate(zip(captions, cuts, strict=True)):
            verdict = self.judge(caption, was_cut)
            if verdict.kept:
                twin = first.setdefault(normalise(verdict.text), index)
                if twin != index:
                    verdict = Verdict('', 'duplicate', f'of caption {twin + 1}', verdict.removals)
            verdicts.append(verdict)
        return verdicts

    def _sift(self, sentences: list[str], cut: bool) -> tuple[list[str], tuple[Removal, ...]]:
        kept, removals, seen = [], [], set()
        for index, sentence in enumerate(sentences):
            words = normalise(sentence)
            hedge = hedge_in(sentence) if self.hedging else ''
            if hedge:
                removals.append(Removal(sentence, 'hedging', hedge))
            elif cut and index == len(sentences) - 1 and not _FINISHED.search(sentence):
                removals.append(Removal(sentence, 'cut off'))
            elif words in seen:
                removals.append(Removal(sentence, 'repeated'))
            else:
                kept.append(sentence)
                seen.add(words)
        return kept, tuple(removals)

    def _fault(self, text: str) -> tuple[str, str]:
        words = len(_WORD.findall(text))
        if words < self.min_words:
            return 'too short', f'{words} words'
        if words > self.max_words:
            return 'too long', f'{words} words'
        if any('\ud800' <= character <= '\udfff' for character in text):
            return 'garbled', 'half a Unicode pair'
        ratio = entropy_ratio(text)
        if ratio < self.min_entropy_ratio:
            return 'repetitive', f'entropy ratio {ratio:.2f}'
        bits = character_entropy(text)
        if bits > self.max_character_entropy:
            return 'garbled', f'{bits:.2f} bits a character'
        return '', ''
