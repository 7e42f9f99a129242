# Copyright (c) mvp_mm authors. All rights reserved.
"""Verify datasets, as ``mvp-mm check`` does."""
from __future__ import annotations

from mvp_mm.cli.check import check
from mvp_mm.cli.command import run_script


def main() -> None:
    """Run the command."""
    run_script(check, 'check_dataset')


if __name__ == '__main__':
    main()
