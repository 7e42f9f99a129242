# Copyright (c) mvp_mm authors. All rights reserved.
"""Random images' states, instructions, targets and predictions for the parts' tests."""
from __future__ import annotations

import torch
from torch import Tensor

from mvp_mm.models.losses import Predictions, Targets
from mvp_mm.models.position import grid_points
from mvp_mm.models.state import ImageState, InstructionBatch

WIDTH = 32
SHAPES = [(8, 8), (4, 4), (2, 2), (1, 1)]


def make_state(num_images: int = 2, extent: list[tuple[float, float]] | None = None,
               shapes: list[tuple[int, int]] = SHAPES, width: int = WIDTH) -> ImageState:
    """Random images; ``extent`` is the share of the canvas (width, height) that each fills."""
    sizes = [h * w for h, w in shapes]
    points = grid_points(shapes, torch.device('cpu'))
    share = torch.tensor(extent or [(1.0, 1.0)] * num_images)
    return ImageState(
        visual_tokens=torch.randn(num_images, 4, width),
        memory=torch.randn(num_images, sum(sizes), width),
        mask_features=torch.randn(num_images, width, 2 * shapes[0][0], 2 * shapes[0][1]),
        padding_mask=(points[None] > share[:, None]).any(-1),
        spatial_shapes=torch.tensor(shapes),
        level_start_index=torch.tensor([sum(sizes[:i]) for i in range(len(sizes))]),
        shapes=shapes)


def make_batch(kinds: list[str], phrases: list[int], image_index: list[int] | None = None,
               things: list[list[bool]] | None = None) -> InstructionBatch:
    """Instructions without text.

    ``kinds`` are 'word', 'stuff' (a word list with stuff queries), 'sentence' or 'caption'.
    """
    rows, most = len(kinds), max(1, *phrases)
    empty = torch.zeros(rows, 1, dtype=torch.long)
    phrase_mask = torch.arange(most)[None] < torch.tensor(phrases)[:, None]
    is_thing = phrase_mask.clone()
    for r, flags in enumerate(things or []):
        is_thing[r, :len(flags)] = torch.tensor(flags)
    return InstructionBatch(
        ids=empty, mask=empty >= 0, phrase_index=empty - 1, labels=empty - 100,
        image_start=torch.zeros(rows, dtype=torch.long),
        image_index=torch.tensor(image_index or [0] * rows), phrase_mask=phrase_mask,
        is_thing=is_thing, is_word=torch.tensor([k in ('word', 'stuff') for k in kinds]),
        use_stuff=torch.tensor([k == 'stuff' for k in kinds]),
        needs_decoder=torch.tensor([k != 'caption' for k in kinds]),
        per_position=torch.zeros(rows, dtype=torch.long))


def random_boxes(*shape: int) -> Tensor:
    """Boxes cxcywh inside the unit square."""
    size = torch.rand(*shape, 2) * 0.4 + 0.1
    return torch.cat([size / 2 + torch.rand(*shape, 2) * (1 - size), size], -1)


def make_targets(labels: list[list[int]], batch: InstructionBatch,
                 masked: list[bool] | None = None, canvas: int = 32) -> Targets:
    """Targets with random boxes; rows with ``masked`` False have boxes only."""
    rows, most = len(labels), max(1, *map(len, labels))
    padded = torch.zeros(rows, most, dtype=torch.long)
    valid = torch.zeros(rows, most, dtype=torch.bool)
    index = torch.full((rows, most), -1)
    seen = 0
    for r, row in enumerate(labels):
        padded[r, :len(row)] = torch.tensor(row, dtype=torch.long)
        valid[r, :len(row)] = True
        if masked is None or masked[r]:
            index[r, :len(row)] = torch.arange(seen, seen + len(row))
            seen += len(row)
    thing = batch.is_thing.gather(1, padded) | ~batch.use_stuff[:, None]
    return Targets(padded, random_boxes(rows, most), valid, valid & ~thing, index,
                   torch.rand(seen, canvas, canvas) > 0.5)


def make_predictions(batch: InstructionBatch, sets: int = 2, dynamic: int = 6,
                     stuff: int = 0, width: int = WIDTH) -> Predictions:
    """Random outputs whose masked columns hold the lowest float, as the similarity head's do."""
    rows, phrases = batch.phrase_mask.shape
    queries = dynamic + stuff
    columns = torch.cat([batch.phrase_mask, batch.is_word[:, None]], 1)
    logits = torch.randn(sets, rows, queries, phrases + 1).masked_fill(
        ~columns[:, None], torch.finfo(torch.float32).min)
    valid = (torch.arange(queries) < dynamic) | batch.use_stuff[:, None]
    return Predictions(logits, random_boxes(sets, rows, queries),
                       torch.randn(sets, rows, queries, width) * 0.3,
                       valid.expand(sets, -1, -1), dynamic)
