# Copyright (c) mvp_mm authors. All rights reserved.
"""What print_config shows is what runs."""
from __future__ import annotations

import pytest

from tests.helpers import ROOT, load_tool

TOOL = load_tool('misc/print_config')
CONFIGS = ROOT / 'configs/mvplm'


def test_the_bound_config_is_printed_without_helpers(capsys):
    TOOL.main([str(CONFIGS / 'tiny/stage1.py'), '--cfg-options', 'model.max_response_tokens=9'])
    text = capsys.readouterr().out
    assert "path='data/synthetic/tokenizer'" in text and 'num_visual_tokens=16' in text
    assert '_max_iters' not in text and 'pipelines' not in text


def test_a_difference_shows_only_what_the_leaf_changes(capsys):
    TOOL.main([str(CONFIGS / 'ablations/queries_30.py'), '--diff'])
    assert capsys.readouterr().out.splitlines() == [
        'model.perception.query_generator.num_queries: 100 -> 30']


def test_our_additions_are_what_differs_from_the_paper(capsys):
    TOOL.main([str(CONFIGS / 'plus/stage2.py'), '--diff'])
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "model.llm.loss_average: + 'images'",
        'model.perception.criterion.ranking_weight: + 1.0',
        "model.perception.criterion.sentence_reduction: + 'sum'",
        'model.perception.criterion.sentence_weight: 2.0 -> 0.2',
        'model.perception.decoder.position_in_content: + True',
        'model.perception.similarity_head.relation: + True',
        *(f'train_dataloader.dataset.datasets[{k}].tasks[0].max_per_image: 1 -> 4'
          for k in (1, 2, 3))]


def test_a_difference_from_parts_shows_what_the_config_adds(capsys):
    TOOL.main([str(CONFIGS / 'stage2.py'), '--diff'])
    lines = capsys.readouterr().out.splitlines()
    assert 'model.llm.gradient_checkpointing: + True' in lines
    assert not [line for line in lines if line.startswith('optim_wrapper')]


@pytest.mark.parametrize('args, message', [
    (['nowhere.py'], 'config not found: nowhere.py'),
    ([str(ROOT / 'configs/_base_/pipelines.py'), '--diff'], 'it has no _base_')])
def test_what_cannot_be_printed_is_one_error(capsys, args, message):
    with pytest.raises(SystemExit) as stopped:
        TOOL.main(args)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
