# Copyright (c) mvp_mm authors. All rights reserved.
"""Run ``mvp-mm`` as ``python -m mvp_mm``."""
from __future__ import annotations

from mvp_mm.cli.main import main

if __name__ == '__main__':
    main()
