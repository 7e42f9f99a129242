# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns what a user asks into requests to the model, checked before any image is read."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mvp_mm.datasets.vocabulary.known_words import known_things
from mvp_mm.registry import TASKS
from mvp_mm.structures import Answering, Request
from mvp_mm.tasks import BaseTask, GeneralizedReferringTask, WordTask

# Lists of words are answered by many weak guesses, a sentence by what is meant.
_WORD_SCORE_THR = 0.3
# Where no task of the model says from which score a sentence's object is there.
_SENTENCE_FOUND_THR = 0.5


def offered_tasks(config: Config) -> Mapping[str, dict]:
    """The task configs that a config offers for inference, by name.

    Raises:
        ValueError: If there are none.
    """
    offered = (config.get('inferencer') or {}).get('tasks')
    if not offered:
        raise ValueError('The config has no inferencer.tasks')
    return offered


def build_task(config: Config, name: str) -> BaseTask:
    """Build one of the tasks that a config offers for inference.

    Args:
        config: With ``inferencer.tasks``, a dict of task configs by name.
        name: Name of the task.

    Raises:
        ValueError: If the config offers no such task.
    """
    offered = offered_tasks(config)
    if name not in offered:
        near = get_close_matches(str(name), list(offered), n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise ValueError(f'Unknown task {name!r}, {hint}choose from {", ".join(sorted(offered))}')
    init_default_scope(config.get('default_scope', 'mvp_mm'))
    return TASKS.build(offered[name])


@dataclass(frozen=True)
class Question:
    """One question, to be asked about any number of images.

    Attributes:
        task: Name of the task in the config.
        asker: The task that asks and decodes.
        words: The word list, or None.
        text: The sentence, or None.
        stuff: Which of the words are stuff; None where the caller does not say.
        thinking: Let the LLM write first; None for the model's own setting.
        threshold: Least score of an instance.
        answering: The model's options of decoding, with this question's.
        known: Whether a word is a thing, where class lists know it.
        threshold_given: Whether the caller gave the threshold.
        found_thr: Score from which the best object of a sentence counts as found; None where
            every object does, or where ``presence_thr`` decides.
        presence_thr: Presence above which the objects of a sentence count as found, or None.
        reason: Why this task, where the caller named none.
    """

    task: str
    asker: BaseTask
    words: Sequence[str] | None
    text: str | None
    stuff: Sequence[str] | None
    thinking: bool | None
    threshold: float
    answering: Answering
    known: Mapping[str, bool]
    threshold_given: bool = False
    found_thr: float | None = None
    presence_thr: float | None = None
    reason: str = ''

    def request(self) -> Request:
        """Make the request of one image.

        Raises:
            ValueError: If the task cannot be asked so.
        """
        spelling = _spelling(self.words, self.known)
        return make_request(self.asker, _respelled(self.words, spelling), self.text,
                            _respelled(self.stuff, spelling), self.known)

    def spelled(self, phrases: Sequence[str]) -> list[str]:
        """Give phrases of the request as the caller spelled them."""
        typed = {asked: word for word, asked in _spelling(self.words, self.known).items()}
        return [typed.get(phrase, phrase) for phrase in phrases]


def _spelling(words: Sequence[str] | None, known: Mapping[str, bool]) -> dict[str, str]:
    """The known spelling of words that are known in another case only ("Circle", "circle")."""
    if words is None:
        return {}
    folded = {name.casefold(): name for name in known}
    return {word: folded[word.casefold()] for word in words
            if isinstance(word, str) and word not in known and word.casefold() in folded
            and folded[word.casefold()] not in words}


def _respelled(words: Sequence[str] | None, spelling: Mapping[str, str]) -> list[str] | None:
    return None if words is None else [spelling.get(word, word) for word in words]


def make_request(asker: BaseTask, words: Sequence[str] | None, text: str | None,
                 stuff: Sequence[str] | None, known: Mapping[str, bool]) -> Request:
    """Let a task make the request of one image.

    Args:
        asker: The task.
        words: Phrases of a word-list task.
        text: Sentence of a sentence task.
        stuff: Which of the words are stuff; None does not say.
        known: Whether a word is a thing, of the words that a class list knows.

    Raises:
        ValueError: If the task cannot be asked so.
    """
    extra: dict[str, Any] = {}
    if isinstance(asker, WordTask):
        extra = dict(stuff=stuff, known=known)
    elif stuff is not None:
        raise ValueError(f'Task {asker.name} takes no stuff names')
    request = asker.ask(words=words, text=text, **extra)
    request.task = asker
    return request


def check_question(config: Config, answering: Answering, trained: Mapping[str, bool], task: str,
                   words: Sequence[str] | None = None, text: str | None = None, *,
                   stuff: Sequence[str] | None = None, thinking: bool | None = None,
                   threshold: float | None = None, nms_iou: float | None = None) -> Question:
    """Check a question as far as that takes no image.

    Args:
        config: Offers the tasks.
        answering: The model's options of decoding.
        trained: The classes that the checkpoint was trained on, and whether each is a thing.
        task: Name of the task.
        words: Phrases of a word-list task.
        text: Sentence of a sentence task.
        stuff: Which of the words are stuff.
        thinking: Let the LLM write first.
        threshold: Least score of an instance; None for 0.3 with word lists and what the task
            decides with sentences.
        nms_iou: Box IoU above which repeated answers are removed; None for the model's own.

    Raises:
        ValueError: If an argument is wrong.
    """
    asker = build_task(config, task)
    known = {**known_things(), **trained}
    make_request(asker, words, text, stuff, known)
    thinking = _check_thinking(thinking, asker)
    given = threshold is not None
    threshold = _check_threshold(threshold, asker)
    changes: dict[str, Any] = dict(least_score=threshold)
    if nms_iou is not None:
        changes['nms_iou'] = nms_iou
    return Question(task, asker, words, text, stuff, thinking, threshold,
                    replace(answering, **changes), known, given,
                    **_found_from(config, asker, threshold))


def _check_thinking(thinking: bool | None, asker: BaseTask) -> bool | None:
    if thinking is not None and not isinstance(thinking, (bool, np.bool_)):
        raise ValueError(f'thinking must be True, False or None, got {thinking!r}')
    if asker.kind != 'caption':
        return thinking
    if thinking is False:
        raise ValueError(f'A description of the image (task {asker.name}) is what the LLM writes: '
                         'it cannot be asked for without thinking; leave thinking=False '
                         '(--no-thinking) out')
    return True


def _found_from(config: Config, asker: BaseTask, threshold: float) -> dict[str, Any]:
    """From where on the best object of a sentence counts as found: ``found_thr`` or another.

    A task that answers with one object always does, however unsure. Whether that object is there
    is judged as generalized referring does it, the task that may answer with nothing.
    """
    if asker.kind != 'sentence':
        return {}
    if threshold > 0:
        return dict(found_thr=threshold)
    offered = offered_tasks(config)
    judge: BaseTask | None = asker
    if not isinstance(asker, GeneralizedReferringTask):
        name = GeneralizedReferringTask.name
        judge = build_task(config, name) if name in offered else None
    if not isinstance(judge, GeneralizedReferringTask):
        return dict(found_thr=_SENTENCE_FOUND_THR)
    if judge.presence_thr is None:
        return dict(found_thr=judge.score_thr)
    return dict(presence_thr=judge.presence_thr)


def _check_threshold(threshold: float | None, asker: BaseTask) -> float:
    """The least score of an instance."""
    if threshold is None:
        return _WORD_SCORE_THR if asker.kind == 'word' else 0.
    if not (isinstance(threshold, Real) and not isinstance(threshold, bool)
            and math.isfinite(threshold) and 0 <= threshold <= 1):
        raise ValueError(f'threshold must be a number from 0 to 1, got {threshold!r}')
    return float(threshold)
