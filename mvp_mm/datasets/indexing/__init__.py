# Copyright (c) mvp_mm authors. All rights reserved.
"""Indices on disk of annotation files that are too large for memory."""
