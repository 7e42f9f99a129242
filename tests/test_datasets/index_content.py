# Copyright (c) mvp_mm authors. All rights reserved.
"""Annotation files for tests of indices, and a count of how often one is made."""
from __future__ import annotations

import json

import numpy as np

from mvp_mm.datasets.indexing import store
from mvp_mm.datasets.indexing.coco import CocoIndex


def random_content(images=40, boxes=200, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:images].tolist()
    return dict(
        info=dict(note='[{"images": 1}'),
        annotations=[
            dict(id=k, image_id=ids[rng.integers(images)], category_id=int(rng.choice([3, 7])),
                 iscrowd=int(rng.random() < 0.1), bbox=rng.uniform(1, 20, 4).round(3).tolist(),
                 segmentation=rng.uniform(1, 20, (1, 6)).tolist(), note='caf\u00e9 \u732b')
            for k in range(boxes)],
        categories=[dict(id=7, name='cat'), dict(id=3, name='dog')],
        images=[dict(id=i, file_name=f'b\u00e4r {i}.jpg', height=50, width=60) for i in ids])


def write(path, content, **options):
    path.write_text(json.dumps(content, **options), encoding='utf-8')
    return str(path)


def open_on_disk(path, index_dir=None):
    return CocoIndex(str(path), keep_in_memory=0, index_dir=index_dir)


def count_builds(monkeypatch):
    built = []
    make = store._make
    monkeypatch.setattr(store, '_make', lambda *args: built.append(1) or make(*args))
    return built
