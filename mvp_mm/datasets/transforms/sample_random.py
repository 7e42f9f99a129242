# Copyright (c) mvp_mm authors. All rights reserved.
"""Random numbers of a training sample."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.dist import get_rank


class SampleGenerator:
    """Makes the numpy generator of one transform for one sample.

    The numbers follow from the sample's draw (see
    :class:`~mvp_mm.datasets.draws.DrawnIndex`), so a resumed run, another number of workers and
    another number of ranks draw the same. A sample that no sampler of this project drew takes
    numpy's global generator as its source.

    Args:
        purpose: Keeps the numbers of different transforms apart.
    """

    def __init__(self, purpose: int) -> None:
        self.purpose = purpose

    def __call__(self, results: dict[str, Any]) -> np.random.Generator:
        """Make the generator.

        Args:
            results: The sample, with ``draw`` where it is known.
        """
        draw = results.get('draw')
        if draw is None:
            draw = (int(np.random.randint(2**31)), get_rank())
        return np.random.default_rng([*draw, self.purpose])
