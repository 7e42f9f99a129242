# Copyright (c) mvp_mm authors. All rights reserved.
"""Fixtures of several test files."""
from __future__ import annotations

import pytest

from mvp_mm.registry import DATASETS
from tests.test_datasets.custom_items import ItemsOfATest
from tests.test_datasets.miniature import write_coco, write_refer
from tests.test_datasets.small_data import pipeline, write_images, write_json


@pytest.fixture
def custom(tmp_path, monkeypatch):
    """Builds the dataset of some items."""
    write_images(tmp_path)
    write_json(tmp_path / 'ann.json', {})

    def build(*items, training=True, **changes):
        monkeypatch.setattr(ItemsOfATest, 'items', list(items))
        return DATASETS.build(dict(
            type='ItemsOfATest', data_root=str(tmp_path), ann_file='ann.json',
            data_prefix=dict(img='img'), test_mode=not training,
            **dict(dict(pipeline=pipeline(tmp_path, training)), **changes)))
    return build


@pytest.fixture
def coco(tmp_path):
    """A folder with COCO and the RefCOCO family in miniature."""
    write_coco(tmp_path / 'coco')
    write_refer(tmp_path / 'refer')
    return tmp_path
