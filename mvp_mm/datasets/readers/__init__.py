# Copyright (c) mvp_mm authors. All rights reserved.
"""Readers of published layouts, one file a layout."""
