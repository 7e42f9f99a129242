# Copyright (c) mvp_mm authors. All rights reserved.
"""MVP-LM whose criterion sees the images."""
from __future__ import annotations

from torch import Tensor

from mvp_mm.models import MVPLM
from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample


@MODELS.register_module()
class BoxSupervisedMVPLM(MVPLM):
    """Shows the images to a :class:`BoxSupervisedCriterion`; arguments are those of MVPLM."""

    def loss(self, inputs: Tensor, data_samples: list[PerceptionDataSample]) -> dict[str, Tensor]:
        """Compute the losses; see :meth:`MVPLM.loss`."""
        preprocessor = self.data_preprocessor
        pixels = inputs.float() * preprocessor.std + preprocessor.mean
        self.perception.criterion.see(pixels / 255)
        return super().loss(inputs, data_samples)
