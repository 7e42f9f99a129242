# Copyright (c) mvp_mm authors. All rights reserved.
"""How written responses end."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mvp_mm.evaluation.base import NothingToMeasureError, PerceptionMetric
from mvp_mm.registry import METRICS


@METRICS.register_module()
class ResponseMetric(PerceptionMetric):
    """Counts the responses that were cut and whose ending was forced.

    A large share says that ``model.max_response_tokens`` is too small for the captions that the
    model learned to write, or that it does not end them.

    Reports ``response/forced``, in percent.
    """

    default_prefix = 'response'

    def measure(self, sample: Mapping[str, Any]) -> bool | None:
        """Read whether a response was cut; None for an answer that no response came with."""
        return sample.get('pred_response_forced')

    def summarize(self, results: list[bool | None]) -> dict[str, float]:
        """Share of the responses that were cut.

        Raises:
            NothingToMeasureError: If the answers came without responses, as those of another
                model may.
        """
        written = [bool(result) for result in results if result is not None]
        if not written:
            raise NothingToMeasureError('no response was written')
        return dict(forced=100. * sum(written) / len(written))
