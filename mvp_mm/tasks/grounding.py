# Copyright (c) mvp_mm authors. All rights reserved.
"""Phrase grounding: the word list is the noun phrases of a caption."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mvp_mm.registry import TASKS
from mvp_mm.structures import ImageAnnotation, PerceptionDataSample, RawPrediction, Request
from mvp_mm.tasks.decoding import decode_phrases
from mvp_mm.tasks.word import WordTask


@TASKS.register_module()
class PhraseGroundingTask(WordTask):
    """Finds boxes of every phrase of the image's caption.

    An object that several phrases name is a target of each of them. Negatives are drawn from
    the annotation's vocabulary, the dataset's common phrases, where they share no word with
    the image's own phrases; they are used in training only.

    Args:
        max_negatives: Most phrases mixed in; their number is uniform over 0 … max_negatives.
        score_thr: Lowest score of a prediction.
        max_per_phrase: Most predictions per phrase; recall at k needs k of them.
        **kwargs: See :class:`WordTask`, except ``num_negatives``.

    Raises:
        ValueError: If ``max_per_phrase`` is not positive.
    """

    name: ClassVar[str] = 'grounding'
    predicts_masks: ClassVar[bool] = False
    default_metric: ClassVar[str] = 'GroundingRecallMetric'

    def __init__(self, *, max_negatives: int = 0, score_thr: float = 0.0,
                 max_per_phrase: int = 10, **kwargs: Any) -> None:
        if max_per_phrase < 1:
            raise ValueError(f'max_per_phrase must be positive, got {max_per_phrase}')
        super().__init__(num_negatives=(0, max_negatives), **kwargs)
        self.max_negatives = max_negatives
        self.score_thr = score_thr
        self.max_per_phrase = max_per_phrase

    def instruct(self, annotation: ImageAnnotation, rng: np.random.Generator,
                 training: bool) -> list[Request]:
        """See :meth:`BaseTask.instruct`; no request for a caption without grounded phrases."""
        spans = [(phrase, [t for t in targets if not annotation.crowd[t]])
                 for phrase, targets in annotation.caption_spans]
        spans = [span for span in spans if span[1]]
        if not spans:
            return []
        phrases = [phrase for phrase, _ in spans]
        order = np.arange(len(spans))
        response = []
        if training:
            response = self.response(annotation, phrases, rng)
            phrases = phrases + self._draw_negatives(annotation, phrases, rng)
            order = rng.permutation(len(phrases))
        position = np.argsort(order)
        request = self._request(
            [phrases[index] for index in order], np.ones(len(order), dtype=bool), response)
        request.targets = np.array([t for _, targets in spans for t in targets], dtype=np.int64)
        request.labels = np.repeat(position[:len(spans)], [len(t) for _, t in spans])
        return [request]

    def _draw_negatives(self, annotation: ImageAnnotation, phrases: list[str],
                        rng: np.random.Generator) -> list[str]:
        vocabulary = annotation.vocabulary
        wanted = int(rng.integers(0, self.max_negatives + 1))
        if not wanted or not vocabulary:
            return []
        words = {word for phrase in phrases for word in phrase.split()}
        drawn = rng.choice(len(vocabulary), min(2 * wanted, len(vocabulary)), replace=False)
        absent = [vocabulary[i] for i in drawn if words.isdisjoint(vocabulary[i].split())]
        return absent[:wanted]

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_instances = decode_phrases(
            raw, sample, max_per_phrase=self.max_per_phrase, score_thr=self.score_thr,
            with_masks=self.predicts_masks)
