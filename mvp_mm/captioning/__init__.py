# Copyright (c) mvp_mm authors. All rights reserved.
"""Offline captioning of a dataset by several VLMs, and merging and refining of the captions.

Training reads the result through :mod:`mvp_mm.datasets.captions`.
"""
from __future__ import annotations

