# Copyright (c) mvp_mm authors. All rights reserved.
"""Base of the tasks that are asked by a referring expression (paper sections 3.1 and 3.2)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mvp_mm.structures import ImageAnnotation, Instruction, Referral, Request, Segment
from mvp_mm.tasks.base import BaseTask
from mvp_mm.tasks.prompts import sentence_prompt
from mvp_mm.tasks.response import ResponseBuilder, existing_names
from mvp_mm.tasks.texts import check_sentence


class SentenceTask(BaseTask):
    """Finds what an expression means; one request per expression.

    In training, expressions that mean a crowd region are left out; evaluation asks them all.

    Args:
        response: Response setting of training: ``'auto'``, ``'caption'``, ``'existing'`` or
            ``'none'`` (see :class:`~mvp_mm.tasks.response.ResponseBuilder`).
        missing_caption: See :class:`~mvp_mm.tasks.response.ResponseBuilder`.
        max_per_image: Most expressions drawn from an image in training, None for all;
            evaluation always asks all.
        join_sentences: Ask all sentences of a reference as one expression.
        num_candidates: Number of queries kept in ``pred_candidates``; 0 keeps none.

    Attributes:
        one_target: Whether an expression must mean exactly one object.
    """

    kind: ClassVar[str] = 'sentence'
    one_target: ClassVar[bool] = False

    def __init__(self,
                 *,
                 response: str = 'auto',
                 missing_caption: str = 'error',
                 max_per_image: int | None = None,
                 join_sentences: bool = False,
                 num_candidates: int = 0) -> None:
        if max_per_image is not None and max_per_image < 1:
            raise ValueError(f'max_per_image must be positive or None, got {max_per_image}')
        if num_candidates < 0:
            raise ValueError(f'num_candidates must not be negative, got {num_candidates}')
        self.response = ResponseBuilder(response, missing_caption)
        self.max_per_image = max_per_image
        self.join_sentences = join_sentences
        self.num_candidates = num_candidates

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

    def _check_targets(self, referral: Referral, source: str) -> None:
        """Refuse expressions with a number of targets that the task cannot answer."""
        if self.one_target and len(referral.targets) != 1:
            raise ValueError(
                f'{source}: sentence {referral.sent_id} of reference {referral.ref_id} means '
                f'{len(referral.targets)} objects ({referral.sentence!r}), task {self.name} '
                'answers with exactly one; use GeneralizedReferringTask')

    def instruct(self, annotation: ImageAnnotation, rng: np.random.Generator,
                 training: bool) -> list[Request]:
        """See :meth:`BaseTask.instruct`."""
        referrals = [r for r in annotation.referrals
                     if not training or not annotation.crowd[r.targets].any()]
        if self.join_sentences:
            referrals = _join(referrals)
        if training and self.max_per_image is not None and len(referrals) > self.max_per_image:
            drawn = rng.choice(len(referrals), self.max_per_image, replace=False)
            referrals = [referrals[index] for index in drawn]
        existing = existing_names(annotation) if training else []
        requests = []
        for referral in referrals:
            self._check_targets(referral, annotation.source)
            response = self.response(annotation, existing, rng) if training else []
            requests.append(self._request(referral, response))
        return requests

    def _request(self, referral: Referral, response: list[Segment]) -> Request:
        instruction = Instruction(
            task=self.name,
            kind=self.kind,
            prompt=sentence_prompt(referral.sentence),
            response=response,
            phrases=[referral.sentence],
            is_thing=np.ones(1, dtype=bool))
        return Request(
            instruction,
            targets=np.array(referral.targets, dtype=np.int64),
            labels=np.zeros(len(referral.targets), dtype=np.int64),
            meta=dict(
                ref_id=referral.ref_id,
                sent_id=referral.sent_id,
                expression=referral.sentence,
                expression_kind=referral.kind))

    def ask(self, words: Sequence[str] | None = None, text: str | None = None) -> Request:
        """See :meth:`BaseTask.ask`."""
        text = check_sentence(self.name, words, text)
        return self._request(Referral(text, []), [])


def _join(referrals: list[Referral]) -> list[Referral]:
    """Join the sentences of each reference into one expression, separated by periods."""
    grouped: dict[int | str, list[Referral]] = {}
    for referral in referrals:
        grouped.setdefault(referral.ref_id, []).append(referral)
    return [
        Referral('. '.join(r.sentence.rstrip('. ') for r in group), group[0].targets, ref_id,
                 group[0].sent_id, group[0].kind) for ref_id, group in grouped.items()
    ]
