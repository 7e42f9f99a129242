# Copyright (c) mvp_mm authors. All rights reserved.
"""The split of images into training and validation."""
from __future__ import annotations

import numpy as np

from mvp_mm.own_data.labels import LabeledDataset, LabeledImage, LabelError

DEFAULT_SHARE = 0.2


def split_dataset(dataset: LabeledDataset, val_share: float | None = None, seed: int = 0) -> str:
    """Give every image a split, in place.

    A split that the labels name is kept. Otherwise, or where they name training images alone,
    images are drawn; at least one is left on either side.

    Args:
        dataset: The dataset.
        val_share: Share of the images to validate on; None for 0.2, or for the split of the labels.
            0 validates on the training images, which tells whether a model can fit them and
            nothing else.
        seed: Seed of the draw.

    Returns:
        A sentence that says how the split came about.

    Raises:
        LabelError: If some images have a split and others none, one side is empty, an image is on
            both sides, or a share is given for labels with a split of their own.
    """
    images = dataset.images
    named = [image for image in images if image.split]
    if named and len(named) < len(images):
        raise LabelError(f'{len(images) - len(named)} images have no split and {len(named)} have '
                         f'one, the first without is {[i for i in images if not i.split][0].path}')
    splits = {image.split for image in named}
    if splits == {'both'} and val_share is None:
        return (f'the labels name the same {len(images)} images for training and validation: a '
                'test of fitting alone; --val-share draws a split')
    if splits - {'both', 'train'}:
        return _keep(images, val_share)
    origin = 'the labels name training images alone; ' if splits == {'train'} else ''
    return origin + _draw(images, DEFAULT_SHARE if val_share is None else val_share, seed)


def _keep(images: list[LabeledImage], val_share: float | None) -> str:
    """Check the split that the labels name."""
    sides = {side: {image.path.resolve() for image in images if image.split in (side, 'both')}
             for side in ('train', 'val')}
    counts = [len(sides['train']), len(sides['val'])]
    if not all(counts):
        raise LabelError(f'the labels name {counts[0]} images for training and {counts[1]} '
                         'for validation; both are needed')
    shared = sorted(sides['train'] & sides['val'])
    if shared:
        raise LabelError(f'{len(shared)} images are in training and in validation, the first is '
                         f'{shared[0]}; take them out of one, or name one file of labels')
    if val_share is not None:
        raise LabelError(f'the labels name a split of their own ({counts[0]} train, {counts[1]} '
                         'val); leave --val-share out')
    return f'split of the labels: {counts[0]} train, {counts[1]} val'


def _draw(images: list[LabeledImage], val_share: float, seed: int) -> str:
    """Draw the images to validate on."""
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
