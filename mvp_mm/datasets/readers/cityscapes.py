# Copyright (c) mvp_mm authors. All rights reserved.
"""Cityscapes panoptic JSON, as cityscapesScripts' createPanopticImgs writes it."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.readers.coco_panoptic import CocoPanopticDataset
from mvp_mm.registry import DATASETS


def image_file(file_name: str) -> str:
    """Path of an image below ``leftImg8bit/<split>``.

    The JSON says ``aachen_000000_000019_gtFine_leftImg8bit.png``; the tree has
    ``aachen/aachen_000000_000019_leftImg8bit.png``.
    """
    return f'{file_name.split("_")[0]}/{file_name.replace("_gtFine_", "_")}'


@DATASETS.register_module()
class CityscapesPanopticDataset(CocoPanopticDataset):
    """Cityscapes panoptic: 19 classes, 8 of them things.

    Args:
        *args: See :class:`PerceptionDataset`; ``data_prefix`` has ``img``, the split's folder of
            cities, and ``seg``.
        strip: See :class:`CocoPanopticDataset`; Cityscapes' names need none.
        **kwargs: See :class:`PerceptionDataset`.
    """

    def __init__(self, *args: Any, strip: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, strip=strip, **kwargs)

    def image_path(self, file_name: str) -> str:
        """Path of an image."""
        return super().image_path(image_file(file_name))
