# Copyright (c) mvp_mm authors. All rights reserved.
"""Base of the tasks that are asked by a word list (paper sections 3.1 and 3.2)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mvp_mm.structures import ImageAnnotation, Instruction, Request, Segment
from mvp_mm.tasks.base import BaseTask
from mvp_mm.tasks.prompts import word_prompt
from mvp_mm.tasks.response import ResponseBuilder
from mvp_mm.tasks.texts import check_names, check_words

SYNONYM_RULES = ('joined', 'first', 'max')


class WordTask(BaseTask):
    """Finds the objects of a vocabulary.

    In training the list holds every class of the image's targets, in random order, mixed with
    absent classes. In evaluation it is the vocabulary in its order.

    A class may have several names, listed with commas: "road, route". In predictions, metrics and
    pictures it is called by all of them; ``synonyms`` says what the LLM reads.

    Args:
        response: Response setting of training: ``'auto'``, ``'caption'``, ``'existing'`` or
            ``'none'`` (see :class:`~mvp_mm.tasks.response.ResponseBuilder`).
        missing_caption: See :class:`~mvp_mm.tasks.response.ResponseBuilder`.
        num_negatives: Range ``(lo, hi)``, both ends included, of the number of absent classes
            mixed in; None takes the whole vocabulary.
        stuff_names: Words that :meth:`ask` takes as stuff where its caller does not say, every
            other word being a thing; None leaves it to class lists and, beyond them, to decoding.
        synonyms: ``'joined'``: the list of names as it stands, as one phrase. ``'first'``: the
            first name. ``'max'``: each name is a phrase of its own and the class is as likely as
            its best name; training draws one.

    Raises:
        ValueError: If an option is unknown or a range is empty.

    Class attributes:
        use_stuff_queries: Whether the learnable stuff queries take part.
        asks_about_stuff: Whether they take part when a user's words may be stuff.
        things_only: Whether a dataset's stuff classes are left out of the list.
    """

    kind: ClassVar[str] = 'word'
    use_stuff_queries: ClassVar[bool] = False
    asks_about_stuff: ClassVar[bool] = False
    things_only: ClassVar[bool] = False

    def __init__(self,
                 *,
                 response: str = 'auto',
                 missing_caption: str = 'error',
                 num_negatives: tuple[int, int] | None = None,
                 stuff_names: Sequence[str] | None = None,
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
        self.stuff_names = (
            None if stuff_names is None else check_names(stuff_names, 'stuff name'))

    @property
    def needs_captions(self) -> bool:
        """Whether training images must have captions."""
        return self.response.needs_captions

    @property
    def missing_caption(self) -> str:
        """See :class:`BaseTask`."""
        return self.response.missing_caption

    @property
    def captions_optional(self) -> bool:
        """See :class:`BaseTask`."""
        return self.response.captions_optional

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
        phrases = [annotation.vocabulary[index] for index in listed.tolist()]
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
        asked, classes = phrases, None
        if self.synonyms != 'joined':
            names = self._synonyms(phrases, rng)
            asked = [name for several in names for name in several]
            if len(asked) > len(phrases):
                classes = np.repeat(np.arange(len(names)), [len(n) for n in names])
        instruction = Instruction(
            task=self.name,
            kind=self.kind,
            prompt=word_prompt(asked),
            response=response,
            phrases=phrases,
            is_thing=np.asarray(is_thing, dtype=bool),
            use_stuff_queries=self.use_stuff_queries,
            classes=classes)
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

    def ask(self, words: Sequence[str] | None = None, text: str | None = None,
            stuff: Sequence[str] | None = None,
            known: Mapping[str, bool] | None = None) -> Request:
        """See :meth:`BaseTask.ask`.

        Args:
            words: The word list.
            text: Must be None.
            stuff: Which of the words are stuff, the others being things; None does not say.
            known: Where nobody says, whether a word is a thing, for the words that a class list
                knows. Any other word is offered both as a thing and as stuff.

        Raises:
            ValueError: If ``stuff`` names a word that is not in the list.
        """
        words = check_words(self.name, words, text)
        if stuff is not None:
            stuff = check_names(stuff, 'stuff name')
            strange = [name for name in stuff if name not in words]
            if strange:
                raise ValueError(f'Task {self.name}: stuff names {strange} that are not among the '
                                 f'words {words}')
        elif self.stuff_names is not None:
            stuff = self.stuff_names
        if stuff is None:
            flags = [(known or {}).get(word) for word in words]
        else:
            flags = [word not in stuff for word in words]
        undecided = np.array([flag is None for flag in flags])
        request = self._request(words, np.array([flag is not False for flag in flags]), [])
        instruction = request.instruction
        if self.asks_about_stuff and (undecided.any() or not instruction.is_thing.all()):
            instruction.use_stuff_queries = True
        if undecided.any() and instruction.use_stuff_queries:
            instruction.undecided = undecided
        return request
