# Copyright (c) mvp_mm authors. All rights reserved.
"""Export a trained model without its LLM to ONNX and compare the graphs with the model.

Example::

    python tools/model_converters/export_onnx.py my_model --out my_model/onnx
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mvp_mm import MVP


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--config', help='default: the one stored in the checkpoint')
    parser.add_argument('--out', type=Path, required=True, help='folder of the graphs')
    return parser.parse_args()


def main() -> None:
    """Export."""
    args = parse_args()
    try:
        differences = MVP(args.source, 'cpu', args.config).export_onnx(args.out)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    for name, value in differences.items():
        print(f'{name}: differs from the model by at most {value:.1e}')
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
