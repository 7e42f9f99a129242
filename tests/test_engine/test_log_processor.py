# Copyright (c) mvp_mm authors. All rights reserved.
"""What is logged: a short line on the screen, every term in the files, bounded histories."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mmengine.registry import LOG_PROCESSORS as ROOT_LOG_PROCESSORS

from mvp_mm.engine.log_processor import MAX_LINE, PerceptionLogProcessor, results_table, sum_by_kind
from mvp_mm.registry import LOG_PROCESSORS, MODELS, RUNNERS
from mvp_mm.rehearsal.step import forget_runs
from tests.test_engine import toys

KINDS = ('word', 'box_l1')


@MODELS.register_module()
class ManyLosses(toys.ToyModel):
    """Losses of three supervised sets, and a figure that is no loss."""

    def forward(self, inputs, count=None, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, count, data_samples, mode)
        if mode != 'loss':
            return losses
        word = losses['loss_word']
        return dict(losses, **{'d0.loss_word': word * 2, 'enc.loss_word': word * 3},
                    mean_phrase_cosine=word.detach())


class FakeRunner:
    class message_hub:  # noqa: N801  as the runner calls it
        runtime_info = dict(eta=90_000)


@pytest.fixture
def logged(toy_config, capsys):
    """The lines on the screen and the rows of the file, of a run of so many steps."""
    def run(steps, logger='LoggerHook', **changes):
        toy_config.model.type = 'ManyLosses'
        toy_config.log_processor = dict(
            type='PerceptionLogProcessor', window_size=5, by_epoch=False, **changes)
        toy_config.default_hooks.timer = dict(type='IterTimerHook')
        toy_config.default_hooks.logger = dict(type=logger, interval=10)
        toy_config.train_cfg.max_iters = steps
        toy_config.train_dataloader.dataset.size = 500
        toy_config.train_dataloader.collate_fn = dict(type='default_collate')
        runner = RUNNERS.build(toy_config)
        runner.train()
        lines = [line for line in capsys.readouterr().out.splitlines() if 'Iter(train)' in line]
        file, = Path(runner.log_dir).glob('vis_data/scalars.json')
        return runner, lines, [json.loads(line) for line in file.read_text().splitlines()]

    yield run
    forget_runs()


def test_a_line_has_one_value_per_kind_of_loss(logged):
    _, lines, _ = logged(10)
    line, = lines
    names = [part.split(': ')[0] for part in line.split(']  ')[1].split('  ')]
    assert names == ['eta', 'time', 'data_time', 'memory', 'lr', 'grad_norm', 'loss', *KINDS]


def test_the_file_has_every_term(logged):
    _, _, rows = logged(10)
    row, = rows
    assert {'loss', 'loss_word', 'd0.loss_word', 'enc.loss_word', 'mean_phrase_cosine', 'lr',
            'loss_box_l1', 'grad_norm', 'memory', 'time', 'iter'} <= row.keys()


def test_the_kinds_add_up_to_the_loss(logged):
    _, _, rows = logged(10)
    kinds = sum_by_kind(rows[0])
    assert tuple(kinds) == KINDS
    assert sum(kinds.values()) == pytest.approx(rows[0]['loss'], rel=1e-5)


def test_histories_keep_what_the_longest_window_needs(logged):
    windows = [dict(data_src='loss', log_name='slow_loss', method_name='mean', window_size=12)]
    runner, _, _ = logged(60, custom_cfg=windows)
    sizes = {key: len(history.data[0]) for key, history in runner.message_hub.log_scalars.items()}
    assert set(sizes.values()) == {12}


def test_a_window_over_the_whole_run_keeps_its_history(logged):
    windows = [dict(data_src='loss', log_name='mean_loss', method_name='mean',
                    window_size='global')]
    runner, _, _ = logged(40, custom_cfg=windows)
    histories = runner.message_hub.log_scalars
    assert len(histories['train/loss'].data[0]) == 40
    assert len(histories['train/loss_word'].data[0]) == 5


def test_a_line_never_exceeds_its_length_and_tells_what_it_leaves_out():
    processor = LOG_PROCESSORS.build(dict(type='PerceptionLogProcessor'))
    values = dict(loss=1.0, **{f'loss_some_kind_{k}': 1.0 for k in range(40)})

    line = processor._line('Iter(train) [   50/80000]', values, FakeRunner)
    assert len(line) <= MAX_LINE
    shown = line.count('loss_some') + line.count('some_kind_')
    assert line.endswith(f'(+{40 - shown} more)')


def test_results_are_a_table_with_a_row_per_dataset_and_kind():
    text = results_table({'coco/panoptic/PQ': 56.123, 'coco/panoptic/SQ': 80.0,
                          'coco/semantic/mIoU': 66.8, 'refcoco/referring/cIoU': 83.6,
                          'toy/count': 4})
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert rows[0] == ['dataset', 'metric', 'results']
    assert rows[2:] == [
        ['coco', 'panoptic', 'PQ', '56.12,', 'SQ', '80.00'], ['coco', 'semantic', 'mIoU', '66.80'],
        ['refcoco', 'referring', 'cIoU', '83.60'], ['toy', 'count', '4']]


def test_a_name_and_its_value_stand_on_one_line():
    names = [f'box_precision@0.{k}' for k in range(9)]
    lines = results_table({f'a/b/{name}': 1.5 for name in names}).splitlines()
    assert len(lines) > 4
    assert all(any(f'{name} 1.50' in line for line in lines) for name in names)


def test_a_test_prints_its_table(toy_config, capsys):
    toy_config.log_processor = dict(type='PerceptionLogProcessor', by_epoch=False)
    runner = RUNNERS.build(toy_config)
    runner.test()
    forget_runs()
    out = capsys.readouterr().out
    rows = [line.split()[:4] for line in out.splitlines()]
    assert ['dataset', 'metric', 'results'] in rows
    assert ['panoptic', 'toy', 'count', '4,'] in rows and ['refcoco', 'toy', 'count', '3,'] in rows
    assert max(map(len, out.splitlines())) < 200


def test_the_screen_is_spared_the_config_and_the_file_has_it(toy_config, capsys):
    runner = RUNNERS.build(toy_config)
    forget_runs()
    out = capsys.readouterr().out
    assert 'Config:\n' not in out and 'Hooks will be executed' not in out
    assert f'Config: {runner.work_dir}' in out
    file, = Path(runner.log_dir).glob('*.log')
    text = file.read_text()
    assert 'Config:\n' in text and 'Hooks will be executed' in text


def test_the_type_is_found_from_mmengines_registry():
    assert ROOT_LOG_PROCESSORS.get('mvp_mm.PerceptionLogProcessor') is not None


@pytest.mark.parametrize(('steps', 'shown'), [(3, [1, 3]), (10, [1, 10]), (25, [1, 10, 20, 25])])
def test_the_first_and_the_last_step_are_always_logged(logged, steps, shown):
    _, lines, rows = logged(steps, logger='StepLoggerHook')
    found = [int(re.search(r'\[ *(\d+)/', line)[1]) for line in lines]
    assert found == shown and [row['step'] for row in rows] == shown


def test_kinds_of_loss_that_are_0_are_not_on_the_line():
    assert sum_by_kind({'loss_mask_bce': 0.0, 'd0.loss_mask_bce': 0.0}) == {'mask_bce': 0.0}
    line = PerceptionLogProcessor()._line(
        'head', {'loss': 1.0, 'loss_word': 1.0, 'loss_mask_bce': 0.0}, FakeRunner)
    assert 'word: 1' in line and 'mask_bce' not in line
