# Copyright (c) mvp_mm authors. All rights reserved.
"""Train a model from a config, as ``mvp-mm train`` does."""
from __future__ import annotations

from mvp_mm.cli.command import run_script
from mvp_mm.cli.train import train


def main() -> None:
    """Run the command."""
    run_script(train, 'train')


if __name__ == '__main__':
    main()
