# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.csv_referring.csv_referring.dataset import CsvReferringDataset

__all__ = ['CsvReferringDataset']
