# Copyright (c) mvp_mm authors. All rights reserved.
"""Turn labels of your own into files and a config that train, as ``mvp-mm data`` does."""
from __future__ import annotations

from mvp_mm.cli.command import run_script
from mvp_mm.cli.data import data


def main() -> None:
    """Run the command."""
    run_script(data, 'prepare_own_data')


if __name__ == '__main__':
    main()
