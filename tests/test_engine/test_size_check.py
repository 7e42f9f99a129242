# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
from mmengine.config import Config

from mvp_mm.engine import load_config
from mvp_mm.engine.size_check import size_problems
from tests.helpers import ROOT, build_model, make_batch, make_samples

CANVAS = (64, 96)
TOKENS = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2


def config(queries, kind='DynamicQueryGenerator'):
    pipeline = [dict(type='LoadImage'), dict(type='PadToCanvas', size=CANVAS)]
    return Config(dict(
        model=dict(perception=dict(query_generator=dict(type=kind, num_queries=queries))),
        train_dataloader=dict(dataset=dict(datasets=[dict(pipeline=pipeline)]))))


def test_more_queries_than_memory_tokens_are_found():
    problem, = size_problems(config(TOKENS + 1))
    assert f'{TOKENS + 1} queries' in problem and f'{TOKENS} memory tokens' in problem
    assert '64 x 96' in problem and 'train_dataloader' in problem
    assert not list(size_problems(config(TOKENS)))


def test_queries_that_are_not_selected_may_be_more():
    assert not list(size_problems(config(TOKENS + 1, 'LearnableQueryGenerator')))


@pytest.mark.parametrize('name', ['stage2', 'tiny/stage2', 'ablations/queries_300'])
def test_the_configs_of_the_paper_fit(name):
    assert not list(size_problems(load_config(ROOT / f'configs/mvplm/{name}.py')))


def test_tokens_are_counted_as_the_pixel_decoder_makes_them(tokenizer_path):
    model = build_model(tokenizer_path)
    data = model.data_preprocessor(make_batch([make_samples('DetectionTask', tokenizer_path)]))
    tokens = model.encode(**{'images': data['inputs'], 'data_samples': data['data_samples']}
                          ).memory.shape[1]
    cfg = config(tokens + 1)
    cfg.train_dataloader.dataset.datasets[0].pipeline[1].size = tuple(data['inputs'].shape[-2:])
    problem, = size_problems(cfg)
    assert f'from the {tokens} memory tokens' in problem
