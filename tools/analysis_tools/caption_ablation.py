# Copyright (c) mvp_mm authors. All rights reserved.
"""What the length of the written response is worth: none, a few tokens, as many as it likes.

Example::

    python tools/analysis_tools/caption_ablation.py CONFIG CHECKPOINT --out work_dirs/captions
"""
from __future__ import annotations

import argparse
import sys

from mvp_mm.analysis.evaluated_model import (
    EvaluatedModel,
    add_arguments,
    markdown,
    process,
    summary,
    write_figures,
)
from mvp_mm.models import MVPLM


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument('--lengths', nargs='+', default=['none', '10', 'full'],
                        help='most tokens before <PER>: none, numbers, full (the config\'s)')
    return parser.parse_args()


def apply_length(model: MVPLM, length: str, full: int) -> None:
    """Let the model write captions of so many tokens; beyond it, the result is forced.

    Args:
        model: The model.
        length: ``'none'``, ``'full'`` or a number of tokens.
        full: The config's limit, "The perception result is ``<PER>``" included.

    Raises:
        ValueError: If it is none of these, or more than the config allows.
    """
    most = full - len(model.ending)
    if length not in ('none', 'full') and not (length.isdecimal() and 0 < int(length) <= most):
        raise ValueError(f'a length is none, full or a number from 1 to {most}, got {length!r}')
    model.thinking = length != 'none'
    model.max_response_tokens = (
        int(length) + len(model.ending) if length.isdecimal() else full)


def main() -> None:
    """Score every length on every data set."""
    args = parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    try:
        run = EvaluatedModel(args)
        full = run.model.max_response_tokens
        for name in run.loaders:
            figures[name] = {}
            for length in args.lengths:
                apply_length(run.model, length, full)
                metrics, words, count = run.metrics(name), 0, 0
                for batch in run.batches(name):
                    answers = run.answer(batch)
                    process(metrics, batch, answers)
                    words += sum(len(sample.pred_caption.split()) for sample in answers)
                    count += len(answers)
                figures[name][length] = dict(summary(metrics), caption_words=words / count)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'caption_ablation: error: {error}')
    for name, lengths in figures.items():
        rows = [[key, *(float(scores[key]) for scores in lengths.values())]
                for key in next(iter(lengths.values()))]
        print(f'\n{name}, first {args.images} images\n')
        print(markdown(['', *lengths], rows))
    write_figures(args.out, 'caption_ablation', figures)


if __name__ == '__main__':
    main()
