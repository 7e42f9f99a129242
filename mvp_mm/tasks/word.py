# Copyright (c) mvp_mm authors. All rights reserved.
"""What tasks with a word list share (paper sections 3.1 and 3.2)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mvp_mm.structures import ImageAnnotation, Instruction, Request, Segment
from mvp_mm.tasks.base import BaseTask
from mvp_mm.tasks.prompts import word_prompt
from mvp_mm.tasks.response import ResponseBuilder
from mvp_mm.utils.texts import clean, is_text, same_look, shown

SYNONYM_RULES = ('joined', 'first', 'max')


def check_words(name: str, words: Sequence[str] | None, text: str | None) -> list[str]:
    """Clean a user's word list.

    Raises:
        ValueError: If a sentence came instead, or the list is empty or holds something that is no
            text, shows nothing or cannot be told from another word.
    """
    if text is not None:
        raise ValueError(f'Task {name} takes a list of words, not a sentence: {text!r}')
    if isinstance(words, str):
        raise ValueError(f'Task {name} takes a list of words, got one string: {words!r}')
    try:
        words = list(() if words is None else words)
    except TypeError:
        raise ValueError(f'Task {name} takes a list of words, got {shown(words)}') from None
    if not words or not all(map(is_text, words)):
        raise ValueError(f'Task {name} needs at least one word and no empty ones, each a text, '
                         f'got {shown(words)}')
    words = [clean(word) for word in words]
    if len(set(map(same_look, words))) != len(words):
        raise ValueError(f'Task {name}: repeated words in {shown(words)}')
    return words


class WordTask(BaseTask):
    """Finds the objects of a vocabulary.

    In training the list holds every class of the image's targets, in random order, mixed with
    absent classes. In evaluation it is the vocabulary in its order.

    A class may have several names, listed with commas: "road, route". In predictions, metrics and
    pictures it is called by all of them; ``synonyms`` says what the LLM reads.

    Args:
        response: Response setting of training: ``'caption'``, ``'existing'`` or ``'none'``.
        missing_caption: See :class:`~mvp_mm.tasks.response.ResponseBuilder`.
        num_negatives: Range ``(lo, hi)``, both ends included, of the number of absent classes
            mixed in; None takes the whole vocabulary.
        stuff_names: Names that :meth:`ask` takes as stuff; any other word is a thing.
        synonyms: ``'joined'``: the list of names as it stands, as one phrase. ``'first'``: the
            first name. ``'max'``: each name is a phrase of its own and the class is as likely as
            its best name; training draws one.

    Raises:
        ValueError: If an option is unknown or a range is empty.
    """

    kind: ClassVar[str] = 'word'
    use_stuff_queries: ClassVar[bool] = False
    things_only: ClassVar[bool] = False

    def __init__(self,
                 *,
                 response: str = 'caption',
                 missing_caption: str = 'error',
                 num_negatives: tuple[int, int] | None = None,
                 stuff_names: Sequence[str] = (),
                 synonyms: str = 'joined') -> None:
        if num_negatives is not None:
            low, high = num_negatives
            if not 0 <= low <= high:
                raise ValueError(f'num_negatives must be 0 <= lo <= hi, got {num_negatives}')
        if synonyms not in SYNONYM_RULES:
            raise ValueError(f'synonyms must be one of {SYNONYM_RULES}, got {synonyms!r}')
        self.synonyms = synonyms
        self.response = ResponseBuilder(response, missing_caption)
        self.num_negatives = num_negatives
        self.stuff_names = frozenset(stuff_names)

    @property
    def needs_captions(self) -> bool:
        """Whether training images must have captions."""
        return self.response.needs_captions

    def instruct(self, annotation: ImageAnnotation, rng: np.random.Generator,
                 training: bool) -> list[Request]:
        """See :meth:`BaseTask.instruct`; one request, or none where the list would be empty."""
        if not annotation.vocabulary:
            return []
        candidates = np.arange(len(annotation.vocabulary))
        if self.things_only:
            candidates = candidates[annotation.vocabulary_is_thing]
        wanted = (annotation.labels >= 0) & ~annotation.crowd
        if self.things_only:
            # Objects without a class index the flags too; `wanted` has ruled them out.
            wanted &= annotation.vocabulary_is_thing[annotation.labels]
        targets = np.flatnonzero(wanted)
        listed = candidates
        if training:
            listed = self._draw(candidates, annotation, targets, rng)
        if not len(listed):
            return []

        position = np.full(len(annotation.vocabulary), -1, dtype=np.int64)
        position[listed] = np.arange(len(listed))
        labels = position[annotation.labels[targets]]
        phrases = [annotation.vocabulary[index] for index in listed]
        response = []
        if training:
            present = [phrases[label] for label in np.unique(labels)]
            response = self.response(annotation, present, rng)
        request = self._request(phrases, annotation.vocabulary_is_thing[listed], response,
                                rng if training else None)
        request.targets, request.labels = targets, labels
        return [request]

    def _draw(self, candidates: np.ndarray, annotation: ImageAnnotation, targets: np.ndarray,
              rng: np.random.Generator) -> np.ndarray:
        """The classes of a training list, in random order."""
        if self.num_negatives is None:
            return rng.permutation(candidates)
        low, high = self.num_negatives
        positives = np.unique(annotation.labels[targets])
        # A class that is there as a crowd only is neither present nor absent.
        absent = np.setdiff1d(candidates, annotation.labels, assume_unique=False)
        number = min(int(rng.integers(low, high + 1)), len(absent))
        negatives = rng.choice(absent, number, replace=False)
        return rng.permutation(np.concatenate([positives, negatives]))

    def _request(self, phrases: list[str], is_thing: np.ndarray, response: list[Segment],
                 rng: np.random.Generator | None = None) -> Request:
        """A request about some phrases; ``rng`` draws among synonyms in training."""
        names = [[phrase] for phrase in phrases]
        if self.synonyms != 'joined':
            names = self._synonyms(phrases, rng)
        classes = np.repeat(np.arange(len(names)), [len(n) for n in names])
        asked = [name for several in names for name in several]
        instruction = Instruction(
            task=self.name,
            kind=self.kind,
            prompt=word_prompt(asked),
            response=response,
            phrases=phrases,
            is_thing=np.asarray(is_thing, dtype=bool),
            use_stuff_queries=self.use_stuff_queries,
            classes=classes if len(asked) > len(phrases) else None)
        return Request(instruction)

    def _synonyms(self, phrases: list[str],
                  rng: np.random.Generator | None) -> list[list[str]]:
        """What the LLM reads of each class.

        A name that several classes list belongs to the one that lists it earliest: "screen" to
        "screen, silver screen", not to "screen door, screen".
        """
        names = [list(filter(None, (part.strip() for part in phrase.split(','))))
                 for phrase in phrases]
        names = [several[:1] for several in names] if self.synonyms == 'first' else names
        owners: dict[str, list[int]] = {}
        for place, index in sorted((k, i) for i, n in enumerate(names) for k in range(len(n))):
            owners.setdefault(names[index][place], []).append(index)
        names = [[name for name in dict.fromkeys(several) if owners[name][0] == index]
                 for index, several in enumerate(names)]
        nameless = [phrase for phrase, several in zip(phrases, names, strict=True) if not several]
        if nameless:
            raise ValueError(f'Task {self.name}: with synonyms={self.synonyms!r} other classes '
                             f'are called as {nameless}')
        if rng is not None:
            return [[several[rng.integers(len(several))]] for several in names]
        return names

    def ask(self, words: list[str] | None = None, text: str | None = None) -> Request:
        """See :meth:`BaseTask.ask`."""
        words = check_words(self.name, words, text)
        return self._request(words, np.array([w not in self.stuff_names for w in words]), [])
