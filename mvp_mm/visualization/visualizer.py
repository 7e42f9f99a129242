# Copyright (c) mvp_mm authors. All rights reserved.
"""Pictures of questions and answers."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer
from PIL import Image
from pycocotools import mask as coco_mask

from mvp_mm.registry import VISUALIZERS
from mvp_mm.structures import Instruction, PerceptionDataSample
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.visualization.drawing import (
    anchor_of,
    contact_sheet,
    draw_box,
    draw_mask,
    enlarge,
    repeated_answers,
    resize_mask,
)
from mvp_mm.visualization.palette import color_of
from mvp_mm.visualization.text import Tags, text_panel, text_size


@VISUALIZERS.register_module()
class PerceptionVisualizer(Visualizer):
    """Draws what a sample asks, what is true and what was predicted.

    Panoptic and semantic maps become coloured regions with names, instances become masks, boxes
    and names with scores. Colours go by class, in truth and prediction alike; stuff is striped
    and its names are framed. The sentence and the caption are written below the picture. Text and
    lines scale with the picture.

    Args:
        name: Name of the instance.
        least_side: Pictures are enlarged until their longer side has so many pixels.
        alpha: Share of the colour on the rim of a mask, or in the stripes of stuff; the rest of
            it is tinted by a seventh of that, so that its own colours stay.
        **kwargs: As for :class:`mmengine.visualization.Visualizer`.
    """

    def __init__(self, name: str = 'visualizer', *, least_side: int = 640, alpha: float = 0.45,
                 **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.least_side = least_side
        self.alpha = alpha

    @master_only
    def add_datasample(self, name: str, image: np.ndarray,
                       data_sample: PerceptionDataSample | None = None, draw_gt: bool = True,
                       draw_pred: bool = True, show: bool = False, wait_time: float = 0,
                       pred_score_thr: float = 0.3, out_file: str | Path | None = None,
                       step: int = 0) -> None:
        """Draw a sample; write it to ``out_file`` or else to the visualizer's backends.

        Args:
            name: Name of the picture in the backends, title of the window.
            image: (h, w, 3) uint8 RGB, the original image.
            data_sample: With predictions, and ``gt_eval`` where the truth is known.
            draw_gt: Draw the ground truth, left of the prediction.
            draw_pred: Draw the prediction.
            show: Open a window.
            wait_time: Seconds that the window stays, 0 for until a key is hit.
            pred_score_thr: Instances of word lists with lower scores are left out.
            out_file: Path of the picture.
            step: Step in the backends.
        """
        picture = self.draw(image, data_sample, draw_gt, draw_pred, pred_score_thr)
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            Path(out_file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(out_file)
        else:
            self.add_image(name, picture, step)

    def draw(self, image: np.ndarray, data_sample: PerceptionDataSample | None,
             draw_gt: bool = True, draw_pred: bool = True,
             pred_score_thr: float = 0.3) -> np.ndarray:
        """Make the picture of :meth:`add_datasample`, (H, W, 3) uint8 RGB; changes no state."""
        if data_sample is None:
            return enlarge(image, self.least_side)[0]
        instruction: Instruction | None = data_sample.get('instruction')
        sentence = instruction is not None and instruction.kind == 'sentence'
        # A sentence is too long for a tag; it is written below the picture.
        phrases = ['target'] if sentence else list(instruction.phrases) if instruction else []
        is_thing = [True] if sentence or not instruction else instruction.is_thing.tolist()
        truth = data_sample.get('gt_eval') if draw_gt else None
        panels = []
        if truth:
            panels.append(('ground truth', self._draw_truth(image, truth, phrases, is_thing)))
        if draw_pred:
            thr = 0. if sentence else pred_score_thr
            panels += self._draw_predictions(image, data_sample, phrases, is_thing, thr)
        if not panels:
            panels.append(('', enlarge(image, self.least_side)[0]))
        size = text_size(max(panels[0][1].shape[:2]))
        if len(panels) > 1:
            pictures = [
                np.concatenate((text_panel([(title, '')], picture.shape[1], size), picture))
                for title, picture in panels]
            sheet = contact_sheet(pictures, len(pictures))
        else:
            sheet = panels[0][1]
        notes = _notes(data_sample, instruction)
        if notes:
            sheet = np.concatenate((sheet, text_panel(notes, sheet.shape[1], size)))
        return sheet

    def _draw_truth(self, image: np.ndarray, truth: dict[str, Any], phrases: list[str],
                    is_thing: list[bool]) -> np.ndarray:
        if 'panoptic' in truth:
            return self._draw_segments(
                image, truth['panoptic'], truth['segments_info'], phrases, is_thing)
        masks = truth.get('masks')
        if masks:
            masks = coco_mask.decode([dict(rle) for rle in masks]).transpose(2, 0, 1).astype(bool)
        return self.draw_objects(image, truth.get('bboxes', np.zeros((0, 4))), masks,
                                 truth.get('labels'), None, phrases, is_thing)

    def _draw_predictions(self, image: np.ndarray, sample: PerceptionDataSample,
                          phrases: list[str], is_thing: list[bool],
                          thr: float) -> list[tuple[str, np.ndarray]]:
        """Draw one titled picture per kind of prediction that the sample has."""
        panels = []
        if 'pred_panoptic_seg' in sample:
            result = sample.pred_panoptic_seg
            panels.append(('prediction: panoptic', self._draw_segments(
                image, result['panoptic'], result['segments_info'], phrases, is_thing)))
        elif 'pred_sem_seg' in sample:
            labels = to_numpy(sample.pred_sem_seg)
            segments = [dict(id=int(k) + 1, label=int(k)) for k in np.unique(labels)]
            panels.append(('prediction: semantic', self._draw_segments(
                image, labels + 1, segments, phrases, is_thing)))
        if 'pred_instances' in sample:
            found = sample.pred_instances
            kept = found.scores >= thr
            found = found if bool(kept.all()) else found[kept]
            title = 'prediction: instances' if panels else 'prediction'
            title = title if len(found) else f'{title} (nothing found)'
            panels.append((title, self.draw_objects(
                image, found.bboxes, found.get('masks'), found.labels, found.scores, phrases,
                is_thing)))
        return panels

    def _draw_segments(self, image: np.ndarray, segment_map: Any, segments: list[dict[str, Any]],
                       phrases: list[str], is_thing: list[bool]) -> np.ndarray:
        """Colour the segments of a map and write their names inside, the largest first."""
        canvas, _ = enlarge(image, self.least_side)
        segment_map = to_numpy(segment_map)
        found = []
        for segment in segments:
            mask = resize_mask(segment_map == segment['id'], canvas.shape[:2])
            if mask.any():
                label = segment['label']
                thing = segment.get('isthing', _is_thing(is_thing, label))
                draw_mask(canvas, mask, color_of(label), self.alpha, striped=not thing)
                found.append((int(mask.sum()), anchor_of(mask), label, thing))
        tags = Tags(canvas)
        for _, anchor, label, thing in sorted(found, key=lambda entry: -entry[0]):
            tags.add(_name(phrases, label), anchor, color_of(label), centred=True,
                     framed=not thing)
        return tags.picture()

    def draw_objects(self, image: np.ndarray, boxes: Any, masks: Any, labels: Any, scores: Any,
                     phrases: list[str], is_thing: Sequence[bool] = ()) -> np.ndarray:
        """Draw n boxes with names, over their masks, the best score on top.

        Answers that repeat a better one of the same name are dashed; its tag counts them.

        Args:
            image: (h, w, 3) uint8 RGB.
            boxes: (n, 4) xyxy in pixels of the image.
            masks: (n, h, w) bool, or None.
            labels: (n,) indices into ``phrases``, or None for zeros.
            scores: (n,), or None for ground truth.
            phrases: Names.
            is_thing: Whether each of the names is a thing; stuff is striped.

        Returns:
            (H, W, 3) uint8 RGB, at least ``least_side`` long.
        """
        canvas, factor = enlarge(image, self.least_side)
        boxes = to_numpy(boxes).reshape(-1, 4) * factor
        labels = np.zeros(len(boxes), dtype=int) if labels is None else to_numpy(labels)
        scores = None if scores is None else to_numpy(scores)
        order = np.arange(len(boxes)) if scores is None else np.argsort(scores, kind='stable')
        first = np.arange(len(boxes))
        if scores is not None:
            first = repeated_answers(boxes, labels, scores)
        stuff = [not _is_thing(is_thing, int(label)) for label in labels]
        if masks is not None and len(masks):
            for k in order[first[order] == order]:
                mask = resize_mask(to_numpy(masks[int(k)]).astype(bool), canvas.shape[:2])
                draw_mask(canvas, mask, color_of(int(labels[k])), self.alpha, striped=stuff[k])
        for k in sorted(order, key=lambda k: first[k] == k):
            draw_box(canvas, boxes[k], color_of(int(labels[k])), dashed=first[k] != k)
        tags = Tags(canvas)
        for k in order[::-1]:
            if first[k] != k:
                continue
            text = _name(phrases, int(labels[k]))
            if scores is not None:
                count = int((first == k).sum())
                text = f'{text} {scores[k]:.2f}' + (f' ×{count}' if count > 1 else '')
            tags.add(text, (boxes[k, 0], boxes[k, 1]), color_of(int(labels[k])), framed=stuff[k])
        return tags.picture()


def _name(phrases: list[str], label: int) -> str:
    return phrases[label] if 0 <= label < len(phrases) else f'#{label}'


def _is_thing(flags: Sequence[bool], label: int) -> bool:
    return bool(flags[label]) if 0 <= label < len(flags) else True


def _notes(sample: PerceptionDataSample, instruction: Instruction | None) -> list[tuple[str, str]]:
    """What is written below the picture: the sentence and the caption."""
    notes = []
    if instruction is not None and instruction.kind == 'sentence':
        notes.append(('sentence', ', '.join(instruction.phrases)))
    if sample.get('pred_caption'):
        notes.append(('caption', sample.pred_caption))
    return notes
