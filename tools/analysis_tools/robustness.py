# Copyright (c) mvp_mm authors. All rights reserved.
"""How much the answers to referring expressions suffer when these are said in other words.

Every rule of ``paraphrases.py`` is applied where it can be; the figures before and after are over
the same expressions.

Example::

    python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --out work_dirs/robustness
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

from mvp_mm.analysis.evaluated_model import (
    EvaluatedModel,
    add_arguments,
    answer_regions,
    markdown,
    overlap,
    process,
    summary,
    write_figures,
)
from mvp_mm.analysis.paraphrases import RULES, paraphrase
from mvp_mm.models import MVPLM
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.tokenization.split_to_context import tokenize_in_parts


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument('--rules', nargs='+', choices=list(RULES), default=list(RULES))
    return parser.parse_args()


def reworded(sample: PerceptionDataSample, text: str, model: MVPLM) -> PerceptionDataSample:
    """The sample with its expression replaced, and everything else kept."""
    other = sample.new()
    other.instruction = sample.task_object.ask(text=text).instruction
    tokenize_in_parts(other.instruction, model.tokenizer, model.max_response_tokens)
    return other


def measure(run: EvaluatedModel, name: str, rules: list[str]) -> dict[str, dict[str, Any]]:
    """Figures of every rule that applies to some expression.

    Returns:
        By rule: ``number`` of expressions, metrics ``before`` and ``after``, ``agreement``, the
        mean IoU of both answers in percent, and an ``example``.
    """
    metrics = {rule: (run.metrics(name), run.metrics(name)) for rule in rules}
    agreement: dict[str, list[float]] = {rule: [] for rule in rules}
    examples: dict[str, str] = {}
    for batch in run.batches(name):
        groups = batch['data_samples']
        before = iter(run.answer(batch))
        before = [[next(before) for _ in group] for group in groups]
        for rule in rules:
            texts = [[paraphrase(s.instruction.phrases[0], rule) for s in g] for g in groups]
            if not any(text for group in texts for text in group):
                continue
            changed = [[reworded(s, text, run.model) for s, text in zip(g, row, strict=True)
                        if text] for g, row in zip(groups, texts, strict=True)]
            after = run.answer(dict(inputs=batch['inputs'], data_samples=changed))
            kept = [s for g, row in zip(before, texts, strict=True)
                    for s, text in zip(g, row, strict=True) if text]
            process(metrics[rule][0], None, kept)
            process(metrics[rule][1], None, after)
            agreement[rule] += [overlap(answer_regions(a, 0.), answer_regions(b, 0.))
                                for a, b in zip(kept, after, strict=True)]
            examples.setdefault(
                rule, f'{kept[0].instruction.phrases[0]} → {after[0].instruction.phrases[0]}')
    return {rule: dict(
        number=len(agreement[rule]), before=summary(metrics[rule][0]),
        after=summary(metrics[rule][1]),
        agreement=100 * sum(agreement[rule]) / len(agreement[rule]), example=examples[rule])
        for rule in rules if agreement[rule]}


def report(found: dict[str, dict[str, Any]]) -> str:
    """A row for each rule: before → after of what RES, REC and GRES are known by."""
    known = ('cIoU', 'gIoU', 'REC', 'N-acc')
    keys = [key for key in next(iter(found.values()))['before'] if key.split('/')[1] in known]
    rows = [[rule, part['number'],
             *(f"{part['before'][k]:.1f} → {part['after'][k]:.1f}"
               if k in part['before'] and k in part['after'] else '' for k in keys),
             part['agreement'], part['example']] for rule, part in found.items()]
    return markdown(
        ['rule', 'sentences', *(k.split('/')[1] for k in keys), 'agreement', 'example'], rows)


def main() -> None:
    """Measure every rule on every data set of sentences."""
    args = parse_args()
    figures = {}
    try:
        run = EvaluatedModel(args, kinds=('sentence', ))
        for name in run.loaders:
            figures[name] = measure(run, name, args.rules)
            if not figures[name]:
                raise ValueError(f'{name}: none of the rules {args.rules} applies')
            print(f'\n{name}, first {args.images} images\n')
            print(report(figures[name]))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'robustness: error: {error}')
    write_figures(args.out, 'robustness', figures)


if __name__ == '__main__':
    main()
