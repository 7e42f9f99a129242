# Copyright (c) mvp_mm authors. All rights reserved.
"""Verification of datasets: records against each other, and against the files they name."""
from mvp_mm.datasets.checks.check import check_dataset
from mvp_mm.datasets.checks.report import Fault, Report

__all__ = ['Fault', 'Report', 'check_dataset']
