# Copyright (c) mvp_mm authors. All rights reserved.
"""Measure whether reinforcement learning has something to gain: best of G minus mean of G.

G answers are sampled per held-out sentence from a supervised model, in three ways: the response
alone (the best query answers), the query alone (behind the most probable response), and both, as
the GRPO stage samples. `greedy` is the model's own answer by its best query.

Example::

    PYTHONPATH=. python projects/grpo/measure_gate.py configs/mvplm/tiny/pretrained.py \
        tiny --out results/grpo_gate.json \
        --cfg-options model.encoder.backbone.pretrained_path=None
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from torch import Tensor

from mvp_mm.analysis.evaluated_model import EvaluatedModel, markdown
from mvp_mm.analysis.results import write_result
from mvp_mm.models.llms.sampling import Sampling
from mvp_mm.models.state import InstructionBatch
from projects.grpo.grpo.rollouts import (
    query_logits,
    query_rewards,
    referring_rows,
    with_responses,
    write,
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config with named test datasets')
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--dataset', default='refcoco', help='dataset of sentences')
    parser.add_argument('--images', type=int, default=25, help='first images of the dataset')
    parser.add_argument('--group', type=int, default=8, help='answers G per sentence')
    parser.add_argument('--temperatures', nargs='+', type=float, default=[0.7, 1.0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@torch.no_grad()
def sampled_rewards(run: EvaluatedModel, batch: dict[str, list], temperature: float, group: int,
                    seed: int) -> dict[str, Tensor]:
    """Sample answers to the sentences of a batch.

    Returns:
        Rewards by ``<mask or box>/<way>``: (n, G), of ``greedy`` (n, 1); and ``captions``, the
        number (n, 1) of different responses among G.
    """
    groups = [[sample.new() for sample in samples] for samples in batch['data_samples']]
    data = run.model.data_preprocessor(dict(inputs=batch['inputs'], data_samples=groups), False)
    samples = [data['data_samples'][row] for row in referring_rows(data['data_samples'])]
    state = run.model.encode(data['inputs'], data['data_samples'])
    prompts = InstructionBatch.collate(samples, data['inputs'].device)
    generator = torch.Generator().manual_seed(seed)
    rewards: dict[str, list[Tensor]] = {}
    captions: list[set] = [set() for _ in samples]
    for index in range(-1, group):
        sampling = None if index < 0 else Sampling(temperature, seed=seed * group + index)
        written = write(run.model, state, prompts, sampling)
        full = with_responses(prompts, written.captions)
        _, language = run.model.forward_llm(state, full)
        found = run.model.perception.decode(state, full, language.text, language.summary)
        logits = query_logits(run.model, found).cpu()
        chance = (logits / temperature).softmax(1)
        ways = dict(greedy=logits.argmax(1, keepdim=True),
                    query=chance.multinomial(group, replacement=True, generator=generator))
        if index >= 0:
            ways = dict(response=ways['greedy'],
                        both=chance.multinomial(1, generator=generator))
            for seen, tokens in zip(captions, written.captions, strict=True):
                seen.add(tuple(tokens.tolist()))
        for kind in ('mask', 'box'):
            table = query_rewards(found, samples, logits.shape[1], kind).cpu()
            for way, query in ways.items():
                rewards.setdefault(f'{kind}/{way}', []).append(table.gather(1, query))
    return {**{key: torch.cat(values, 1) for key, values in rewards.items()},
            'captions': torch.tensor([[float(len(seen))] for seen in captions])}


def figures_of(rewards: dict[str, Tensor]) -> dict[str, Any]:
    """Average rewards: mean, best and gap of each way, in percent; the model's own beside them."""
    found: dict[str, Any] = dict(different_responses=float(rewards['captions'].mean()))
    for kind in ('mask', 'box'):
        greedy = 100 * float(rewards[f'{kind}/greedy'].mean())
        found[kind] = dict(greedy=greedy)
        for way in ('response', 'query', 'both'):
            values = 100 * rewards[f'{kind}/{way}']
            mean, best = float(values.mean()), float(values.amax(1).mean())
            found[kind][way] = dict(mean=mean, best=best, gap=best - mean,
                                    best_minus_greedy=best - greedy)
    return found


def main() -> None:
    """Sample, average and write."""
    args = parse_args()
    args.datasets, start = [args.dataset], time.monotonic()
    figures: dict[str, Any] = {}
    try:
        run = EvaluatedModel(args, kinds=('sentence', ))
        for temperature in args.temperatures:
            parts = [sampled_rewards(run, batch, temperature, args.group, args.seed)
                     for batch in run.batches(args.dataset)]
            joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            figures[f'T{temperature}'] = figures_of(joined)
            figures['sentences'] = len(joined['captions'])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'measure_gate: error: {error}')
    settings = dict(images=args.images, group=args.group, dataset=args.dataset)
    write_result(args.out, figures, config=run.cfg, weights=args.checkpoint, seeds=[args.seed],
                 settings=settings, seconds=time.monotonic() - start)
    print(markdown(
        ['temperature', 'IoU', 'way', 'greedy', 'mean', 'best', 'gap'],
        [[key, kind, way, found[kind]['greedy'], *list(found[kind][way].values())[:3]]
         for key, found in figures.items() if key != 'sentences'
         for kind in ('mask', 'box') for way in ('response', 'query', 'both')]))
    print(f'{figures["sentences"]} sentences, written to {args.out}')


if __name__ == '__main__':
    main()
