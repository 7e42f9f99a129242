# Copyright (c) mvp_mm authors. All rights reserved.
"""Exports a model to ONNX, and answers with the exported graphs."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mvp_mm.apis.inferencer import PerceptionInferencer


class OnnxModel:
    """Adds ``export_onnx`` and ``use_onnx``."""

    _inferencer: PerceptionInferencer

    def export_onnx(self, folder: str | Path) -> dict[str, float]:
        """Export all but the LLM to ONNX and compare the graphs with the model.

        Args:
            folder: Where ``image.onnx``, ``perception.onnx`` and ``onnx.json`` are written; see
                :func:`~mvp_mm.export.export_onnx`.

        Returns:
            The largest difference of each output between onnxruntime and torch.

        Raises:
            ImportError: If the packages of the extra ``onnx`` are not installed.
            FileExistsError: If one of the files is there.
            ValueError: If the model's canvas depends on the image, a part cannot be exported, or
                the model is accelerated.
            RuntimeError: If a graph differs from the model.
        """
        from mvp_mm.export import export_onnx
        if self._inferencer.accelerated:
            raise ValueError('An accelerated model cannot be exported: load it without '
                             'acceleration')
        return export_onnx(self._inferencer.model, folder, self._canvas())

    def use_onnx(self, folder: str | Path,
                 providers: Sequence[str] = ('CPUExecutionProvider',)) -> None:
        """Encode images and decode queries in onnxruntime from now on; the LLM stays in torch.

        Args:
            folder: Of :meth:`export_onnx`, of this very model.
            providers: Execution providers of onnxruntime, in order of preference.

        Raises:
            ImportError: If onnxruntime is not installed.
            FileNotFoundError: If a file is missing.
            ValueError: If the folder is of another format.
        """
        from mvp_mm.export import OnnxSession, run_in_onnxruntime
        run_in_onnxruntime(self._inferencer.model, OnnxSession(folder, providers))

    def _canvas(self) -> tuple[int, int]:
        """The (H, W) to which the pipeline brings every image.

        Raises:
            ValueError: If it brings images of other shapes to other sizes.
        """
        perceiver = self._inferencer.perceiver
        sizes = {perceiver.prepare(np.zeros((*size, 3), np.uint8), 'probe').results['img'].shape[:2]
                 for size in ((60, 90), (90, 60))}
        if len(sizes) > 1:
            raise ValueError(f'The pipeline brings images to {sorted(sizes)}, a graph has one '
                             'canvas: pad to it with PadToCanvas')
        divisor = self._inferencer.model.data_preprocessor.pad_size_divisor
        height, width = (side + -side % divisor for side in sizes.pop())
        return height, width
