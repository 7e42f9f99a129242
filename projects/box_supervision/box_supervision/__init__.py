# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.box_supervision.box_supervision.criterion import BoxSupervisedCriterion
from projects.box_supervision.box_supervision.model import BoxSupervisedMVPLM

__all__ = ['BoxSupervisedCriterion', 'BoxSupervisedMVPLM']
