# Copyright (c) mvp_mm authors. All rights reserved.
"""Convert public weights, as ``mvp-mm convert weights`` does."""
from __future__ import annotations

from mvp_mm.cli.command import run_script
from mvp_mm.cli.convert import weights


def main() -> None:
    """Run the command."""
    run_script(weights, 'convert_weights')


if __name__ == '__main__':
    main()
