# Copyright (c) mvp_mm authors. All rights reserved.
"""Print the config that runs: everything inherited, written out and bound.

Examples::

    python tools/misc/print_config.py configs/mvplm/stage2.py --cfg-options train_cfg.max_iters=10
    python tools/misc/print_config.py configs/mvplm/tiny/stage2.py --diff
"""
from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mvp_mm.engine import ConfigError, load_config
from mvp_mm.engine.config_error import children, join_path
from mvp_mm.engine.launch import config_errors_in_one_line

_NOTHING = object()


def base_of(path: Path) -> Config:
    """Load what a config file inherits, without its own lines.

    Raises:
        ConfigError: If it inherits nothing.
    """
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            named = ast.literal_eval(node.value)
            bases = [named] if isinstance(named, str) else named
            # A path that holds an environment variable is mmengine's to read.
            text = [base if base.startswith('{{') else str((path.parent / base).resolve())
                    for base in bases]
            return load_config(Config.fromstring(f'_base_ = {text!r}', '.py'))
    raise ConfigError(f'{path}: --diff: it has no _base_')


def differences(base: Any, own: Any, path: str = '') -> Iterator[str]:
    """List the settings that differ, one line each: ``path: base -> own``."""
    if type(base) is type(own) and isinstance(own, (dict, list)) and (
            isinstance(own, dict) or len(base) == len(own)):
        before, after = dict(children(base)), dict(children(own))
        for key in {**before, **after}:
            yield from differences(
                before.get(key, _NOTHING), after.get(key, _NOTHING), join_path(path, key))
    elif base is _NOTHING:
        yield f'{path}: + {own!r}'
    elif own is _NOTHING:
        yield f'{path}: - {base!r}'
    elif base != own:
        yield f'{path}: {base!r} -> {own!r}'


def main(argv: list[str] | None = None) -> None:
    """Print."""
    parser = argparse.ArgumentParser(description='Print the config that runs')
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument('--diff', action='store_true',
                        help='print only what differs from what the config inherits')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args(argv)
    with config_errors_in_one_line('print_config'):
        cfg = load_config(args.config, args.cfg_options)
        if not args.diff:
            print(cfg.pretty_text)
            return
        for line in differences(base_of(args.config).to_dict(), cfg.to_dict()):
            print(line)


if __name__ == '__main__':
    main()
