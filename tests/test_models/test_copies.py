# Copyright (c) mvp_mm authors. All rights reserved.
"""What is put together on the host reaches the device without a wait."""
from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mvp_mm.analysis.synthetic_batch import make_samples
from mvp_mm.models.data_preprocessor import masks_on_device
from mvp_mm.models.losses.targets import Targets
from mvp_mm.models.state import InstructionBatch, image_extent

# Stands for a GPU: copies to it are dispatched as they would be there.
DEVICE = torch.device('meta')


class BlockingCopies(TorchDispatchMode):
    """Lists copies from the host that the host waits for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (func is torch.ops.aten._to_copy.default and args[0].device.type == 'cpu'
                and out.device == DEVICE and not kwargs.get('non_blocking')):
            self.found.append(tuple(out.shape))
        return out


@pytest.fixture
def samples():
    return [masks_on_device(sample, DEVICE) for sample in make_samples(2, 1, 64, 16, 100)]


def test_a_blocking_copy_is_found():
    with BlockingCopies() as copies:
        torch.ones(3).to(DEVICE)
        torch.ones(3).to(DEVICE, non_blocking=True)
    assert copies.found == [(3, )]


def test_instructions_targets_and_extents_are_copied_without_a_wait(samples):
    with BlockingCopies() as copies:
        batch = InstructionBatch.collate(samples, DEVICE).select([0, 1, 3])
        batch.per_image(2, copies=[0])
        Targets.collate([samples[row] for row in (0, 1, 3)], batch, (64, 64))
        image_extent(torch.zeros(2, 3, 64, 64, device=DEVICE), samples)
    assert not copies.found
