# Copyright (c) mvp_mm authors. All rights reserved.
"""Arrays whatever holds them."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_numpy(array: Any) -> np.ndarray:
    """A tensor on any device, or anything array-like, as an array."""
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
