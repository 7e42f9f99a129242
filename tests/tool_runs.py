# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs a command of ``tools/`` in this process."""
from __future__ import annotations

import runpy
import sys

import pytest

from tests.helpers import ROOT


def run_tool(script: str, *arguments: object) -> int | str:
    """Run a command; return its exit code, or the message that it ended with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [script, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / script), run_name='__main__')
        except SystemExit as end:
            return end.code or 0
    return 0
