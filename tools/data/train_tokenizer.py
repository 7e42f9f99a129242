# Copyright (c) mvp_mm authors. All rights reserved.
"""Train a small byte-level BPE tokenizer on the training text of a synthetic world.

Every class name and colour becomes a single token when a space stands before it.

Example::

    python tools/data/train_tokenizer.py --world data/synthetic --out data/synthetic/tokenizer
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from mvp_mm.synthetic import COLOURS, SIZES, STUFF_CLASSES, TEXTURES, THING_CLASSES
from mvp_mm.tokenization.bpe import TASK_TEXTS, train_bpe
from mvp_mm.utils.files import load_plain_pickle

SINGLE_TOKENS = (*THING_CLASSES, *STUFF_CLASSES, *COLOURS)
# Merges follow frequency: names that must be whole are repeated, rare task words are not lost.
NAME_REPEATS = 5000
TASK_TEXT_REPEATS = 5000


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--world', required=True, help='folder of the synthetic world')
    parser.add_argument('--out', required=True, help='folder for the tokenizer')
    parser.add_argument('--vocab-size', type=int, default=576, help='tokens, the special included')
    return parser.parse_args()


def world_text(world: Path) -> Iterator[str]:
    """Captions and sentences of the training split."""
    for entry in json.loads((world / 'annotations' / 'captions_train.json').read_text()):
        yield from (turn['value'] for turn in entry['conversations'])
    for image in json.loads((world / 'annotations' / 'grounding_train.json').read_text())['images']:
        yield image['caption']
    for captions in json.loads(
            (world / 'captions' / 'train.json').read_text())['captions'].values():
        yield from captions
    refs = load_plain_pickle(world / 'refer' / 'refcoco' / 'refs(unc).p')
    refs += json.loads((world / 'refer' / 'grefcoco' / 'grefs(unc).json').read_text())
    for ref in refs:
        if ref['split'] == 'train':
            yield from (sentence['sent'] for sentence in ref['sentences'])


def training_text(world: Path) -> Iterator[str]:
    """Everything the tokenizer is trained on: the world's text, names, the tasks' own texts."""
    yield from world_text(world)
    for name in (*SINGLE_TOKENS, *SIZES, *TEXTURES):
        yield f' {name}' * NAME_REPEATS
        yield name
    for text in TASK_TEXTS:
        yield from [text] * TASK_TEXT_REPEATS


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: What to train on.
        vocab_size: Number of tokens: 256 bytes, the end of text, and merges.

    Returns:
        A fast tokenizer in which all of ``SINGLE_TOKENS`` are one token after a space.

    Raises:
        ValueError: If the vocabulary is too small for that.
    """
    tokenizer = train_bpe(texts, vocab_size)
    broken = [name for name in SINGLE_TOKENS if len(tokenizer(f' {name}').input_ids) != 1]
    if broken:
        raise ValueError(f'vocab_size={vocab_size} leaves {broken} in pieces; take a larger one')
    return tokenizer


def main() -> None:
    """Train and save."""
    args = parse_args()
    world = Path(args.world)
    if not (world / 'world.json').is_file():
        sys.exit(f'error: {world / "world.json"} is missing: not a synthetic world')
    try:
        tokenizer = train_tokenizer(training_text(world), args.vocab_size)
    except ValueError as error:
        sys.exit(f'error: {error}')
    tokenizer.save_pretrained(args.out)
    print(f'{len(tokenizer)} tokens written to {args.out}')


if __name__ == '__main__':
    main()
