# Copyright (c) mvp_mm authors. All rights reserved.
"""The library behind ``tools/analysis_tools``."""
