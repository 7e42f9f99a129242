# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts the phrases of a grounding file: negatives are drawn from the most frequent ones."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class PhraseCounter:
    """Counts in how many captions each phrase occurs.

    Args:
        size: Number of phrases in the vocabulary.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._counts: Counter[str] = Counter()

    def add(self, phrases: Iterable[str]) -> None:
        """Count the phrases of a caption, each once."""
        # As an iterable: the values of a mapping would be taken for counts.
        self._counts.update(iter(phrases))

    def most_frequent(self) -> list[str]:
        """The vocabulary, the most frequent phrase first."""
        return [phrase for phrase, _ in self._counts.most_common(self.size)]
