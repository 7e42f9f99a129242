# Copyright (c) mvp_mm authors. All rights reserved.
"""Types every full-size command in miniature, on fabricated data and weights."""
