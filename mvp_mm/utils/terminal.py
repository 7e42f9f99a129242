# Copyright (c) mvp_mm authors. All rights reserved.
"""Tell somebody at a terminal what a program is busy with."""
from __future__ import annotations

import os
import sys


def say_busy(what: str) -> None:
    """Say on stderr what takes its time now; nothing where stderr is no terminal.

    Importing PyTorch and transformers takes seconds, on a busy machine more than a minute. Of
    several processes the first one alone says it. A line, not a spinner: imports hold the
    interpreter, and what is logged meanwhile must stay whole.

    Args:
        what: Such as ``loading PyTorch``.
    """
    if sys.stderr.isatty() and os.environ.get('LOCAL_RANK', '0') == '0':
        print(f'mvp-mm: {what} …', file=sys.stderr, flush=True)
