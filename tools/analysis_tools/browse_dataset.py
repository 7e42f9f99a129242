# Copyright (c) mvp_mm authors. All rights reserved.
"""Draw what the model gets to see, as ``mvp-mm browse`` does."""
from __future__ import annotations

from mvp_mm.cli.browse import browse
from mvp_mm.cli.command import run_script


def main() -> None:
    """Run the command."""
    run_script(browse, 'browse_dataset')


if __name__ == '__main__':
    main()
