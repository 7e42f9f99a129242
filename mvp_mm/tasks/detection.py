# Copyright (c) mvp_mm authors. All rights reserved.
"""Object detection with boxes."""
from __future__ import annotations

from typing import ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.tasks.instance import InstanceTask


@TASKS.register_module()
class DetectionTask(InstanceTask):
    """Finds boxes of the vocabulary's things. Arguments: see :class:`InstanceTask`."""

    name: ClassVar[str] = 'detection'
    predicts_masks: ClassVar[bool] = False
