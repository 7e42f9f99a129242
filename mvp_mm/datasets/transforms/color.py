# Copyright (c) mvp_mm authors. All rights reserved.
"""Changes brightness, contrast, saturation and hue at random."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mvp_mm.datasets.transforms.sample_random import SampleGenerator
from mvp_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Random brightness, contrast, saturation and hue of a uint8 image.

    Every strength ``s`` draws a factor from [1 - s, 1 + s]; ``hue`` draws a turn from
    [-hue, hue] degrees. mmdet's ``PhotoMetricDistortion`` leaves floating-point images, which
    the loader does not send. Required key: ``img`` (h, w, 3) uint8 BGR, which is changed.

    Args:
        brightness: Strength, in [0, 1).
        contrast: Strength around the mid-grey, in [0, 1).
        saturation: Strength, in [0, 1).
        hue: Largest turn in degrees, in [0, 180].
    """

    def __init__(self, brightness: float = 0.125, contrast: float = 0.5, saturation: float = 0.5,
                 hue: float = 18.0) -> None:
        strengths = (brightness, contrast, saturation)
        if any(not 0 <= s < 1 for s in strengths) or not 0 <= hue <= 180:
            raise ValueError(f'Strengths must be in [0, 1) and hue in [0, 180], got {strengths} '
                             f'and {hue}')
        self.strengths = strengths
        self.hue = hue
        self._generator = SampleGenerator(purpose=2)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the image."""
        rng = self._generator(results)
        brightness, contrast, saturation = (rng.uniform(1 - s, 1 + s) for s in self.strengths)
        turn = rng.uniform(-self.hue, self.hue)
        levels = np.arange(256)
        tone = ((levels * brightness) - 127.5) * contrast + 127.5
        image = cv2.LUT(results['img'], np.clip(tone.round(), 0, 255).astype(np.uint8))
        if self.strengths[2] or self.hue:
            # OpenCV counts hue in steps of two degrees.
            tables = np.stack([(levels + round(turn / 2)) % 180,
                               np.clip((levels * saturation).round(), 0, 255), levels], axis=-1)
            hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), tables.astype(np.uint8)[None])
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        results['img'] = image
        return results
