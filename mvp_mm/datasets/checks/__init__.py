# Copyright (c) mvp_mm authors. All rights reserved.
"""Verification of datasets: records against each other, and against the files they name."""
from __future__ import annotations

from mvp_mm.datasets.checks.check import can_be_checked, check_dataset
from mvp_mm.datasets.checks.report import Fault, Report

__all__ = ['Fault', 'Report', 'can_be_checked', 'check_dataset']
