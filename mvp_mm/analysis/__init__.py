# Copyright (c) mvp_mm authors. All rights reserved.
"""What the tools of ``tools/analysis_tools`` share."""
