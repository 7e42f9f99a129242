# Copyright (c) mvp_mm authors. All rights reserved.
"""The answer to one question about one image: objects, segments, caption, picture, files."""
from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.structures import InstanceData
from PIL import Image

from mvp_mm.apis.answers import AnswerFiles
from mvp_mm.apis.coco_answers import to_coco
from mvp_mm.apis.compact_masks import CompactMasks
from mvp_mm.structures import Instruction, PerceptionDataSample
from mvp_mm.visualization import PerceptionVisualizer

_PICTURES = ('.png', '.jpg', '.jpeg', '.webp')
# The usual level takes four times as long, longer than a small model's answer, for a fifth less.
_OPTIONS: dict[str, dict[str, Any]] = {'.png': dict(compress_level=1)}


class Segments(NamedTuple):
    """The division of an image's pixels.

    Attributes:
        map: (H, W) int32 segment ids, 0 where no segment is.
        info: One dict per segment: ``id``, ``label``, ``isthing``, ``score`` (None where the task
            gives none).
    """

    map: np.ndarray
    info: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model answers to one question about one image.

    Objects are the instances of a word list, the objects that a sentence means, or the segments
    of a panoptic or semantic answer. ``len(answer)`` counts them.

    Attributes:
        image: Path, address or ``image_<number>``.
        task: Name of the task that answered.
        reason: Why this task, where the caller named none; else empty.
        question: ``words`` or ``text``, as asked.
        image_size: (height, width).
        boxes: (n, 4) float32 xyxy in pixels of the image.
        labels: n words, or n times the sentence.
        scores: (n,) float32, from 0 to 1; NaN for semantic segments, which have none.
        caption: What the LLM wrote before it answered; None where it did not think.
        seconds: Wall-clock time: ``encode`` and ``answer``, both as this image's share of its
            batch.
        found_thr: Score from which the best object of a sentence counts as found; None where
            every object does, or where ``presence_thr`` decides.
        presence: Probability that the sentence means anything in the image; None of words.
        presence_thr: Presence above which the objects of a sentence count as found, or None.
    """

    image: str
    task: str
    reason: str
    question: Mapping[str, Any]
    image_size: tuple[int, int]
    boxes: np.ndarray
    labels: list[str]
    scores: np.ndarray
    caption: str | None
    seconds: Mapping[str, float]
    instruction: Instruction = field(repr=False)
    found_thr: float | None = field(repr=False, default=None)
    presence: float | None = field(repr=False, default=None)
    presence_thr: float | None = field(repr=False, default=None)
    compact_masks: CompactMasks | None = field(repr=False, default=None)
    class_ids: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, dtype=int))
    segment_map: np.ndarray | None = field(repr=False, default=None)
    segment_info: list[dict[str, Any]] = field(repr=False, default_factory=list)
    read: Callable[[], np.ndarray] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.boxes)

    def __bool__(self) -> bool:
        """Whether there is an answer; an empty one is an object all the same."""
        return True

    def __repr__(self) -> str:
        found = ', '.join(f'{label} {score:.2f}' for label, score in
                          list(zip(self.labels, self.scores.tolist(), strict=True))[:5])
        found += ', ...' if len(self) > 5 else ''
        caption = f', caption={self.caption!r}' if self.caption else ''
        return f'Answer({self.task} of {self.image}: {self._count()} [{found}]{caption})'

    def _count(self) -> str:
        return f'{len(self)} found' if self.found or not len(self) else 'not found, the best guess'

    @property
    def found(self) -> bool:
        """Whether anything was found; a sentence may mean nothing in the image.

        A task that answers a sentence with one object answers with its best guess: it is found
        where the sentence's presence is above ``presence_thr`` or, without one, its score
        reaches ``found_thr``. A description is found where it was written.
        """
        if self.task == 'caption':
            return bool(self.caption)
        if self.presence_thr is not None and self.presence is not None:
            return len(self) > 0 and self.presence > self.presence_thr
        if self.found_thr is None:
            return len(self) > 0
        return bool((self.scores >= self.found_thr).any())

    @property
    def masks(self) -> np.ndarray | None:
        """Decode all masks, (n, H, W) bool; None where the task gives boxes only.

        One byte per pixel and mask: :meth:`mask` decodes a single one.
        """
        if self.compact_masks is None:
            return None
        masks = np.zeros((len(self), *self.image_size), dtype=bool)
        for index, mask in enumerate(masks):
            mask[:] = self.compact_masks[index]
        return masks

    def mask(self, index: int) -> np.ndarray:
        """Decode one mask, (H, W) bool.

        Raises:
            ValueError: If the task gives boxes only.
        """
        if self.compact_masks is None:
            raise ValueError(f'Task {self.task} gives boxes, no masks')
        return self.compact_masks[index]

    @property
    def segments(self) -> Segments | None:
        """The segment map with its segments, of panoptic and semantic answers."""
        if self.segment_map is None:
            return None
        return Segments(self.segment_map.astype(np.int32), [dict(s) for s in self.segment_info])

    def pixels(self) -> np.ndarray:
        """Read the image again, (H, W, 3) uint8 RGB.

        Raises:
            ValueError: If its file has changed its size, or the answer has no image.
        """
        if self.read is None:
            raise ValueError(f'The answer about {self.image} holds no image')
        pixels = self.read()
        if pixels.shape[:2] != self.image_size:
            raise ValueError(f'{self.image} is not the image that was asked about: it has another '
                             'size')
        return np.ascontiguousarray(pixels[..., ::-1])

    def plot(self) -> Image.Image:
        """Draw the answer over its image."""
        sample = PerceptionDataSample()
        sample.instruction = self.instruction
        if self.caption:
            sample.pred_caption = self.caption
        if self.segment_map is not None:
            labels = {s['id']: k for s, k in zip(self.segment_info, self.class_ids, strict=True)}
            sample.pred_panoptic_seg = dict(
                panoptic=self.segment_map,
                segments_info=[dict(s, label=int(labels[s['id']])) for s in self.segment_info])
        elif self.task != 'caption':
            found = InstanceData(bboxes=self.boxes, scores=self.scores, labels=self.class_ids)
            if self.compact_masks is not None:
                found.masks = self.compact_masks
            sample.pred_instances = found
        visualizer = PerceptionVisualizer(name='answer')
        return Image.fromarray(
            visualizer.draw(self.pixels(), sample, draw_gt=False, pred_score_thr=0.))

    def save(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write the picture and the answer to files.

        Args:
            path: A file (``.png``, ``.jpg``, ``.webp``: the picture; ``.json``: the answer), or
                else a folder, where both are written as ``<image>_<task>``, with a number behind
                the name where it is taken.
            overwrite: Replace a file that is there.

        Returns:
            The files written.

        Raises:
            FileExistsError: If the file is there already.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (*_PICTURES, '.json') or path.is_dir():
            return self.to_files().write(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f'{path} exists: choose another name, or overwrite=True')
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == '.json':
            path.write_text(self._as_text(), encoding='utf-8')
        else:
            self.plot().save(path, **_OPTIONS.get(suffix, {}))
        return [path]

    def to_files(self) -> AnswerFiles:
        """Draw the answer and spell it out, to be written as two files."""
        return AnswerFiles(f'{Path(self.image).stem}_{self.task}', self._repr_png_(),
                           self._as_text())

    def _as_text(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as JSON can hold it.

        Returns:
            ``image``, ``size`` [h, w], ``task``, ``reason``, ``question``, ``found``,
            ``caption``, ``seconds`` and ``objects``: ``label``, ``score`` (or None), ``bbox``
            xyxy, ``segmentation`` as COCO RLE where there are masks, and of segments ``id`` and
            ``isthing``.
        """
        objects = []
        for index, (label, score, box) in enumerate(zip(
                self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)):
            item: dict[str, Any] = dict(
                label=label, score=None if np.isnan(score) else round(score, 4),
                bbox=[round(side, 2) for side in box])
            if self.compact_masks is not None:
                item['segmentation'] = self.compact_masks.rle(index)
            if self.segment_map is not None:
                item.update({key: self.segment_info[index][key] for key in ('id', 'isthing')})
            objects.append(item)
        return dict(
            image=self.image, size=list(self.image_size), task=self.task, reason=self.reason,
            question=dict(self.question), found=self.found, caption=self.caption,
            seconds={key: round(value, 4) for key, value in self.seconds.items()},
            objects=objects)

    def to_coco(self) -> dict[str, Any]:
        """Give the content of a COCO file; see :func:`~mvp_mm.apis.coco_answers.to_coco`."""
        return to_coco([self])

    def to_supervision(self) -> Any:
        """Give the objects as ``supervision.Detections``, with ``class_name`` in its data.

        Raises:
            ImportError: If supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError('to_supervision() needs the package supervision: '
                              'pip install "mvp_mm[supervision]"') from error
        scored = not np.isnan(self.scores).any()
        return supervision.Detections(
            xyxy=self.boxes.reshape(-1, 4), mask=self.masks if len(self) else None,
            confidence=self.scores if scored else None, class_id=self.class_ids.astype(int),
            data=dict(class_name=np.array(self.labels, dtype=str)))

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.plot().save(content, 'png', **_OPTIONS['.png'])
        return content.getvalue()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        rows = ''.join(
            f'<tr><td>{html.escape(label)}</td><td>{"" if np.isnan(score) else f"{score:.2f}"}'
            f'</td><td>{", ".join(f"{side:.0f}" for side in box)}</td></tr>'
            for label, score, box in zip(
                self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True))
        return (f'<p><b>{html.escape(self.task)}</b> {html.escape(self.image)}: {self._count()}</p>'
                f'<img style="max-width:100%" src="data:image/png;base64,{picture}">'
                f'<table><tr><th>label</th><th>score</th><th>box</th></tr>{rows}</table>')
