# Copyright (c) mvp_mm authors. All rights reserved.
"""Print a config with everything it inherits.

Example::

    python tools/misc/print_config.py configs/mvplm/stage2.py --cfg-options train_cfg.max_iters=10
"""
import argparse
import sys
from pathlib import Path

from mmengine.config import Config, DictAction


def main(argv: list[str] | None = None) -> None:
    """Print."""
    parser = argparse.ArgumentParser(description='Print a merged config')
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args(argv)
    if not Path(args.config).is_file():
        sys.exit(f'print_config: error: config not found: {args.config}')
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    cfg.merge_from_dict(args.cfg_options or {})
    print(cfg.pretty_text)


if __name__ == '__main__':
    main()
