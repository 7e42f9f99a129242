# Copyright (c) mvp_mm authors. All rights reserved.
"""The split of images into training and validation."""
from __future__ import annotations

import numpy as np

from mvp_mm.own_data.labels import LabeledDataset, LabelError


def split_dataset(dataset: LabeledDataset, val_share: float = 0.2, seed: int = 0) -> str:
    """Give every image a split, in place.

    Splits that the labels name are kept. Otherwise images are drawn; at least one is left on
    either side.

    Args:
        dataset: The dataset.
        val_share: Share of the images to validate on. 0 validates on the training images, which
            tells whether a model can fit them and nothing else.
        seed: Seed of the draw.

    Returns:
        A sentence that says how the split came about.

    Raises:
        LabelError: If some images have a split and others none, or one side is empty.
    """
    images = dataset.images
    named = [image for image in images if image.split]
    if named and len(named) < len(images):
        raise LabelError(f'{len(images) - len(named)} images have no split and {len(named)} have '
                         f'one, the first without is {[i for i in images if not i.split][0].path}')
    if named:
        counts = [sum(image.split == split for image in images) for split in ('train', 'val')]
        if not all(counts):
            raise LabelError(f'the labels name {counts[0]} images for training and {counts[1]} '
                             'for validation; both are needed')
        return f'split of the labels: {counts[0]} train, {counts[1]} val'
    if not 0 <= val_share < 1:
        raise LabelError(f'the share of validation must be in [0, 1), got {val_share}')
    if val_share == 0:
        for image in images:
            image.split = 'both'
        return f'{len(images)} images, validated on the same ones: a test of fitting alone'
    if len(images) < 2:
        raise LabelError('one image cannot be split; a share of 0 validates on it')
    count = min(max(round(val_share * len(images)), 1), len(images) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(images))[:count].tolist())
    for place, image in enumerate(images):
        image.split = 'val' if place in chosen else 'train'
    return f'drawn split (seed {seed}): {len(images) - count} train, {count} val'
