# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws scale, crop and flip (large-scale jitter) before the instructions, applies them after."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mvp_mm.datasets.transforms.canvas import fitting_size
from mvp_mm.datasets.transforms.mirror import mirror_annotation
from mvp_mm.datasets.transforms.sample_random import SampleGenerator
from mvp_mm.registry import TRANSFORMS
from mvp_mm.structures import ImageAnnotation


@dataclass(frozen=True)
class View:
    """Size, part and side of an image that is shown.

    Attributes:
        canvas: (w, h) that the view fits into.
        scale: Size of the image, 1 where it just fits into the canvas.
        place: (x, y) in [0, 1], where in the image the shown part lies if not all fits.
        flip: Whether left and right are swapped.
    """

    canvas: tuple[int, int]
    scale: float = 1.0
    place: tuple[float, float] = (0.0, 0.0)
    flip: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(w, h) of the resized image."""
        bound = tuple(max(round(side * self.scale), 1) for side in self.canvas)
        return fitting_size(height, width, bound)

    def window(self, height: int, width: int) -> np.ndarray:
        """The part of the resized image that is shown, (4,) xyxy in whole pixels of it."""
        size = np.array(self.size(height, width))
        shown = np.minimum(size, self.canvas)
        start = np.floor(np.array(self.place) * (size - shown + 1)).astype(int)
        start = np.minimum(start, size - shown)
        return np.concatenate([start, start + shown])

    def visible(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Share of each box that is shown.

        Args:
            boxes: (n, 4) xyxy in pixels of the stored image.
            height: Of the stored image.
            width: Of the stored image.

        Returns:
            (n,) in [0, 1].
        """
        factor = np.array(self.size(height, width) * 2) / (width, height, width, height)
        scaled = boxes * factor
        window = self.window(height, width)
        low = np.maximum(scaled[:, :2], window[:2])
        high = np.minimum(scaled[:, 2:], window[2:])
        shown = np.clip(high - low, 0, None).prod(1)
        return shown / np.maximum((scaled[:, 2:] - scaled[:, :2]).prod(1), 1e-9)


@TRANSFORMS.register_module()
class DrawView(BaseTransform):
    """Draws a :class:`View` and brings the annotation in line with it.

    Comes before :class:`BuildInstructions`, so that what is said about the image is true of the
    view: sentences, captions and grounded phrases of a flipped image have left and right swapped;
    objects that are not shown are no targets, and sentences that mean one of them are left out.
    :class:`ApplyView` does the same to the pixels. A flip that would make a text wrong does not
    take place (see :func:`~mvp_mm.datasets.transforms.mirror.mirror_text`); ``refused`` counts
    these, and the 1st, 10th, 100th … are logged.

    Required keys: ``annotation`` (or ``parts``) and, unless the scale is fixed, ``boxes``,
    ``height`` and ``width``. Added key: ``view``.

    Args:
        canvas: (w, h) in pixels.
        flip_prob: Share of the images that are to be flipped.
        scale_range: Lowest and highest scale; (0.1, 2.0) is large-scale jitter. At 1 the whole
            image fits into the canvas.
        min_visible: Least share of a box that must be shown for its object to count.
    """

    def __init__(self, canvas: Sequence[int], flip_prob: float = 0.0,
                 scale_range: Sequence[float] = (1.0, 1.0), min_visible: float = 0.25) -> None:
        low, high = scale_range
        if not 0 <= flip_prob <= 1 or not 0 < min_visible <= 1 or not 0 < low <= high:
            raise ValueError(
                'flip_prob must be in [0, 1], min_visible in (0, 1], scale_range 0 < low <= high; '
                f'got {flip_prob}, {min_visible}, {tuple(scale_range)}')
        self.canvas = tuple(canvas)
        self.flip_prob = flip_prob
        self.scale_range = (low, high)
        self.min_visible = min_visible
        self.refused: Counter[str] = Counter()
        self._generator = SampleGenerator(purpose=1)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw the view."""
        rng = self._generator(results)
        scale, x, y, side = rng.uniform(*self.scale_range), *rng.random(3).tolist()
        parts = results.get('parts') or [results]
        flip = side < self.flip_prob and self._flip([part['annotation'] for part in parts])
        view = View(self.canvas, float(scale), (x, y), flip)
        for part in parts:
            if len(part['boxes']):
                shown = view.visible(part['boxes'], part['height'], part['width'])
                drop_objects(part['annotation'], shown < self.min_visible)
        results['view'] = view
        return results

    def _flip(self, annotations: list[ImageAnnotation]) -> bool:
        originals = [(a.referrals, a.captions, a.caption_spans) for a in annotations]
        for annotation in annotations:
            reason = mirror_annotation(annotation)
            if reason:
                self._refuse(annotation.source, reason)
                for turned, texts in zip(annotations, originals, strict=True):
                    turned.referrals, turned.captions, turned.caption_spans = texts
                return False
        return True

    def _refuse(self, source: str, reason: str) -> None:
        self.refused[source.split(' ', 1)[0]] += 1
        total = self.refused.total()
        if total in (1, 10, 100, 1000, 10_000, 100_000):
            print_log(f'{total} flips did not take place, the last one of {source}: {reason}',
                      logger='current')


def drop_objects(annotation: ImageAnnotation, hidden: np.ndarray) -> None:
    """Drop objects that a crop removed from labels, referrals and grounded phrases.

    Args:
        annotation: Changed in place.
        hidden: (n,) bool, the objects to drop.
    """
    if not hidden.any():
        return
    annotation.labels = np.where(hidden, -1, annotation.labels)
    annotation.referrals = [
        referral for referral in annotation.referrals if not hidden[referral.targets].any()]
    spans = [(phrase, [t for t in targets if not hidden[t]])
             for phrase, targets in annotation.caption_spans]
    annotation.caption_spans = [span for span in spans if span[1]]


@TRANSFORMS.register_module()
class ApplyView(BaseTransform):
    """Resizes, crops and flips image, boxes, masks and semantic map as drawn; comes before padding.

    Required keys: ``view``, ``img``. Where they exist, ``gt_bboxes``, ``gt_bboxes_labels``,
    ``gt_masks`` and ``gt_seg_map`` follow. Added keys: ``scale_factor`` (w, h), ``flip``,
    ``flip_direction``, and ``crop``, (4,) xyxy of the resized image, where not all of it is shown.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Apply the view."""
        view: View = results['view']
        height, width = results['img'].shape[:2]
        size = view.size(height, width)
        window = view.window(height, width)
        results['scale_factor'] = (size[0] / width, size[1] / height)
        results['flip'] = view.flip
        results['flip_direction'] = 'horizontal' if view.flip else None
        cropped = tuple(window[2:] - window[:2]) != size
        if cropped:
            results['crop'] = window
        results['img'] = self._map(results['img'], size, window, view.flip, 'bilinear')
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = self._map(
                results['gt_seg_map'], size, window, view.flip, 'nearest')
        results['img_shape'] = results['img'].shape[:2]
        if 'gt_bboxes' in results:
            self._objects(results, size, window, cropped)
        return results

    @staticmethod
    def _map(pixels: np.ndarray, size: tuple[int, int], window: np.ndarray, flip: bool,
             interpolation: str) -> np.ndarray:
        left, top, right, bottom = window.tolist()
        shown = mmcv.imresize(pixels, size, interpolation=interpolation)[top:bottom, left:right]
        return np.ascontiguousarray(shown[:, ::-1] if flip else shown)

    @staticmethod
    def _objects(results: dict[str, Any], size: tuple[int, int], window: np.ndarray,
                 cropped: bool) -> None:
        boxes, masks = results['gt_bboxes'], results.get('gt_masks')
        boxes.rescale_(results['scale_factor'])
        if masks is not None:
            masks = masks.resize(size[::-1])
        if cropped:
            boxes.translate_((-window[:2]).tolist())
            boxes.clip_(results['img_shape'])
            # Nobody asks about an object that is not shown at all.
            shown = ((boxes.widths > 0) & (boxes.heights > 0)).numpy()
            boxes = boxes[shown]
            results['gt_bboxes_labels'] = results['gt_bboxes_labels'][shown]
            if masks is not None:
                masks = masks[shown].crop(window)
        if results['flip']:
            boxes.flip_(results['img_shape'], 'horizontal')
            masks = None if masks is None else masks.flip('horizontal')
        results['gt_bboxes'] = boxes
        if masks is not None:
            results['gt_masks'] = masks
