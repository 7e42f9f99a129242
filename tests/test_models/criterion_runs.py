# Copyright (c) mvp_mm authors. All rights reserved.
"""What the tests of the losses share."""
from __future__ import annotations

from functools import partial

from mvp_mm.models.losses import (
    PerceptionCriterion,
    SampledMasks,
)
from tests.test_models.parts import make_state


def on_grid(targets, batch):
    """The masks of a random state, on their whole grid."""
    return SampledMasks.on_grid(make_state().mask_features, targets.masks, batch.image_index)


def losses(criterion, *args):
    """Divided sums, one (S,) tensor a name."""
    return {name: mean.total / mean.count.clamp(min=1e-6)
            for name, mean in criterion(*args).items()}


# Sums over all targets of a batch, which a plain loop can make; see test_normalization.py for the
# other averages.
over_targets = partial(
    PerceptionCriterion, normalization='targets', sentence_reduction='sum')
