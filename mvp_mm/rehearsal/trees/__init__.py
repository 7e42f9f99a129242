# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes every dataset that the configs name in miniature: folders, file names, formats."""
