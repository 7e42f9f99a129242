# Copyright (c) mvp_mm authors. All rights reserved.
"""A dataset that serves the items which a test chooses."""
from __future__ import annotations

from mvp_mm.datasets import PerceptionDataset
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class ItemsOfATest(PerceptionDataset):
    """Serves items that a test chooses."""

    items: list = []

    def load_items(self):
        return [dict(item, img_path=self.image_path('a.jpg')) if 'img_path' in item else item
                for item in self.items]
