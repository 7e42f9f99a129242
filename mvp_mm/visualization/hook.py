# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws test samples into the working directory."""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.registry import HOOKS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.images import read_image
from mvp_mm.visualization.visualizer import PerceptionVisualizer


@HOOKS.register_module()
class PerceptionVisualizationHook(Hook):
    """Draws every n-th sample of a test to ``<work_dir>/vis_images/<folder>/``.

    The folder is the sample's ``benchmark``, or its task where the dataset names none.

    Args:
        interval: n.
        draw_gt: Draw the ground truth as well.
        score_thr: Instances of word lists with lower scores are left out.
        out_dir: Where to write; None for ``<work_dir>/vis_images``.

    Raises:
        ValueError: If the interval is not positive.
    """

    def __init__(self, interval: int = 50, draw_gt: bool = True, score_thr: float = 0.3,
                 out_dir: str | None = None) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval
        self.draw_gt = draw_gt
        self.score_thr = score_thr
        self.out_dir = out_dir
        self._seen = 0
        self._visualizer = PerceptionVisualizer(name='perception_visualization_hook')

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting at the first sample."""
        self._seen = 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                        outputs: Sequence[PerceptionDataSample] | None = None) -> None:
        """Draw the samples whose turn it is.

        Args:
            runner: Supplies the working directory.
            batch_idx: Index of the batch.
            data_batch: Not used.
            outputs: The batch's samples with predictions.
        """
        root = Path(self.out_dir or Path(runner.work_dir) / 'vis_images')
        for sample in outputs or ():
            self._seen += 1
            if (self._seen - 1) % self.interval:
                continue
            folder = sample.metainfo.get('benchmark') or sample.instruction.task
            path = Path(sample.img_path)
            stem = re.sub(r'[^\w.-]+', '_', f'{path.stem}_{self._seen - 1:06d}')
            pixels = read_image(path, sample.metainfo.get('apply_exif', True))
            image = np.ascontiguousarray(pixels[..., ::-1])
            self._visualizer.add_datasample(
                stem, image, sample, draw_gt=self.draw_gt, pred_score_thr=self.score_thr,
                out_file=root / folder / f'{stem}.png')
