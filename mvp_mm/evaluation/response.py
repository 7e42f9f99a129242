# Copyright (c) mvp_mm authors. All rights reserved.
"""How written responses end."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mvp_mm.evaluation.base import PerceptionMetric, require
from mvp_mm.registry import METRICS


@METRICS.register_module()
class ResponseMetric(PerceptionMetric):
    """Counts the responses that were cut and whose ending was forced.

    A large share says that ``model.max_response_tokens`` is too small for the captions that the
    model learned to write, or that it does not end them.

    Reports ``response/forced``, in percent.
    """

    default_prefix = 'response'

    def measure(self, sample: Mapping[str, Any]) -> bool:
        """Read whether a response was cut.

        Raises:
            KeyError: If the sample does not say.
        """
        return bool(require(sample, 'pred_response_forced'))

    def summarize(self, results: list[bool]) -> dict[str, float]:
        """Share of the responses that were cut."""
        return dict(forced=100. * sum(results) / len(results))
