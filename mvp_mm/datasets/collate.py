# Copyright (c) mvp_mm authors. All rights reserved.
"""Collates images with different numbers of instructions into batches."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()
def perception_collate(batch: Sequence[dict[str, Any]]) -> dict[str, list]:
    """Lists instead of stacked tensors; the data preprocessor pads and flattens.

    Args:
        batch: B packed items.

    Returns:
        ``inputs``, B image tensors, and ``data_samples``, B lists of data samples.
    """
    return dict(
        inputs=[item['inputs'] for item in batch],
        data_samples=[item['data_samples'] for item in batch])
