# Copyright (c) mvp_mm authors. All rights reserved.
"""Whether captions of the synthetic world are true."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp_mm.evaluation.base import PerceptionMetric, require
from mvp_mm.registry import METRICS
from mvp_mm.synthetic.caption_reading import ASPECTS, Verdict, judge_caption, read_caption
from mvp_mm.synthetic.known_scenes import KnownScenes


@dataclass
class _Caption:
    """What one caption says: verdicts per aspect, and its words."""

    verdicts: dict[str, Verdict]
    words: int
    unread: int


@METRICS.register_module()
class CaptionTruthMetric(PerceptionMetric):
    """Compares what the LLM wrote before ``<PER>`` with the scene that the image was drawn from.

    Precision is the share of what the captions claim that is true, recall the share of what is
    true that they claim, over all images together. A caption may leave things out, so the
    recall of true captions is below 100: the world's own reach what
    :func:`~mvp_mm.synthetic.caption_reading.judge_caption` gives them.

    Args:
        data_root: Folder of the synthetic world.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``caption/<aspect>_precision``, ``_recall`` and ``_F1`` in percent for the aspects
    ``objects`` (with every attribute that is said), ``colours`` (shape and colour), ``shapes``,
    ``stuff``, ``counts`` and ``places``; ``caption/hallucinations``, objects per caption that are
    not there; ``caption/empty``, captions without a word, and ``caption/unread``, words that the
    captions' grammar does not have, in percent.
    """

    default_prefix = 'caption'

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_root = data_root
        self._scenes: KnownScenes | None = None

    def measure(self, sample: Mapping[str, Any]) -> _Caption:
        """Judge one caption.

        Raises:
            KeyError: If the sample has no caption.
            ValueError: If its image is none of the world's.
        """
        if self._scenes is None:
            self._scenes = KnownScenes(self.data_root)
        path = Path(require(sample, 'img_path'))
        try:
            scene = self._scenes[int(path.stem)]
        except (KeyError, ValueError) as error:
            raise ValueError(f'{path} is no image of the world in {self.data_root}') from error
        size = tuple(map(int, sample['ori_shape'][:2]))
        if size != (scene.height, scene.width):
            raise ValueError(f'{path} is of {size}, the scene in {self.data_root} of '
                             f'{(scene.height, scene.width)}: it is an image of another world')
        reading = read_caption(require(sample, 'pred_caption'))
        return _Caption(judge_caption(reading, scene), reading.words, reading.unread)

    def summarize(self, results: list[_Caption]) -> dict[str, float]:
        """Precision, recall and F1 of each aspect, and the rest."""
        figures, rows = {}, [['aspect', 'right', 'claimed', 'true', 'precision', 'recall', 'F1']]
        for aspect in ASPECTS:
            total = sum((caption.verdicts[aspect] for caption in results), Verdict())
            scores = f1_scores(total)
            figures.update({f'{aspect}_{name}': value for name, value in scores.items()})
            rows.append([aspect, *total, *scores.values()])
        self.log_table('Captions', rows)
        wrong = sum(c.verdicts['objects'].claimed - c.verdicts['objects'].right for c in results)
        words = sum(caption.words for caption in results)
        figures.update(
            hallucinations=wrong / len(results),
            empty=100. * sum(caption.words == 0 for caption in results) / len(results),
            unread=100. * sum(caption.unread for caption in results) / max(words, 1))
        return figures


def f1_scores(total: Verdict) -> dict[str, float]:
    """Compute precision, recall and F1 in percent; 0 where there is nothing to divide by."""
    return dict(precision=100. * total.right / max(total.claimed, 1),
                recall=100. * total.right / max(total.true, 1),
                F1=200. * total.right / max(total.claimed + total.true, 1))
