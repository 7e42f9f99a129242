# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes the model card of a published folder: what the model is, how good, how to use it."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from mmengine.config import Config

from mvp_mm.version import __version__

PAPER = 'https://arxiv.org/abs/2507.16213'
_LICENCE_NOTE = (
    'The code of mvp_mm is under Apache-2.0. The weights also follow the licences of the weights '
    'that training started from and the terms of the datasets that it saw.')
_TEXT = """
# {name}

Finds what a list of words or a sentence names: boxes, masks, panoptic and semantic segments. Made
with mvp_mm {version}, after MVP-LM ({paper}).

## Use

```python
from mvp_mm import MVP

model = MVP('{name}')    # this folder
answer = model('photo.jpg', text='the dog on the left')
answer.plot().save('answer.png')
```

Nothing in the folder is executed: `model.safetensors` holds the weights, `config.json` names
components of mvp_mm, `tokenizer/` holds the tokenizer's files.

- tasks: {tasks}
- LLM: {llm}; encoder: {encoder}
- parameters: {parameters:,}

## Training data

{datasets}

## Results

{results}

## Licence

{licence} {note}{sources}
"""


def model_card(name: str, config: Config, parameters: int, *, license: str | None = None,
               datasets: Sequence[str] = (),
               metrics: str | Path | None = None) -> ModelCard:
    """Make a model card with the hub's metadata; what nobody says is not stated.

    Args:
        name: Name of the model.
        config: What it was built from.
        parameters: Number of its parameters.
        license: Licence of the weights, by the hub's identifier (``'apache-2.0'``).
        datasets: Names of the datasets that it was trained on.
        metrics: ``metrics.json`` of ``tools/test.py``.

    Raises:
        ValueError: If ``metrics`` holds no figures by name.
    """
    figures = {} if metrics is None else read_metrics(metrics)
    results = [EvalResult(task_type='image-segmentation', dataset_type=benchmark,
                          dataset_name=benchmark, metric_type=metric, metric_value=value)
               for benchmark, metric, value in _benchmarks(figures)]
    data = ModelCardData(
        library_name='mvp_mm', pipeline_tag='image-segmentation', license=license,
        datasets=list(datasets) or None, model_name=name if results else None,
        eval_results=results or None, metrics=sorted({r.metric_type for r in results}) or None,
        tags=['mvp-lm', 'visual-llm', 'referring-segmentation', 'panoptic-segmentation'])
    text = _TEXT.format(
        name=name, version=__version__, paper=PAPER, parameters=parameters,
        tasks=', '.join(sorted(config.inferencer.tasks)), llm=_kind(config.model.llm),
        encoder=_kind(config.model.encoder.get('backbone', config.model.encoder)),
        datasets='\n'.join(f'- {one}' for one in datasets) or 'Not stated.',
        results=_table(results), licence=f'Weights: {license}.' if license else
        'The licence of the weights is not stated.', note=_LICENCE_NOTE,
        sources=_sources_text(config))
    return ModelCard(f'---\n{data.to_yaml()}\n---\n{text}')


def read_metrics(path: str | Path) -> dict[str, float]:
    """Read ``metrics.json`` of ``tools/test.py``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but figures by name.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(content, dict) or not all(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for value in content.values()):
        raise ValueError(f'{path} does not hold figures by name, as tools/test.py writes them')
    return content


def _benchmarks(figures: dict[str, float]) -> Iterator[tuple[str, str, float]]:
    """Benchmark, metric and figure of ``benchmark/metric`` keys."""
    for key, value in figures.items():
        benchmark, _, metric = key.rpartition('/')
        yield benchmark or 'test', metric, value


def _table(results: Sequence[EvalResult]) -> str:
    if not results:
        return 'Not measured.'
    rows = [f'| {r.dataset_name} | {r.metric_type} | {r.metric_value:g} |' for r in results]
    return '\n'.join(['| dataset | metric | value |', '|---|---|---|', *rows])


def _kind(part: Any) -> str:
    """Name of an architecture."""
    sizes = part.get('config') or {}
    return str(part.get('model_name') or sizes.get('model_type') or part.get('type'))


def _sources_text(config: Config) -> str:
    """Which weights training started from, as far as the config says."""
    names = sorted(set(_sources(config.model.to_dict())))
    return f' Training started from: {", ".join(names)}.' if names else ''


def _sources(value: Any) -> Iterator[str]:
    """Names of files and folders of weights, without their paths."""
    if isinstance(value, dict):
        for key in ('pretrained', 'pretrained_path', 'checkpoint'):
            if isinstance(value.get(key), str):
                yield Path(value[key]).name
        for child in value.values():
            yield from _sources(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from _sources(child)
