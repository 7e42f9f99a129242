# Copyright (c) mvp_mm authors. All rights reserved.
"""Test a checkpoint with the datasets and metrics of a config, as ``mvp-mm test`` does."""
from __future__ import annotations

from mvp_mm.cli.command import run_script
from mvp_mm.cli.test import test


def main() -> None:
    """Run the command."""
    run_script(test, 'test')


if __name__ == '__main__':
    main()
