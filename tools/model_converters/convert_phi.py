# Copyright (c) mvp_mm authors. All rights reserved.
"""Convert a folder of Phi, as ``mvp-mm convert phi`` does."""
from __future__ import annotations

from mvp_mm.cli.command import run_script
from mvp_mm.cli.convert import phi


def main() -> None:
    """Run the command."""
    run_script(phi, 'convert_phi')


if __name__ == '__main__':
    main()
