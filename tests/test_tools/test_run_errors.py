# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest

from mvp_mm.datasets.tolerant import TooManyBadSamples
from mvp_mm.engine.launch import run_errors_in_one_line
from mvp_mm.engine.runner import DatasetError, PerceptionRunner
from mvp_mm.utils.atomic import WriteError

WORKER = ('Caught TooManyBadSamples in DataLoader worker process 0.\nOriginal Traceback (most '
          'recent call last):\n  File "x.py", line 1\nmvp_mm.datasets.tolerant.TooManyBadSamples: '
          '11 of 11 samples are bad\n')


@pytest.mark.parametrize(('error', 'said'), [
    (TooManyBadSamples('11 of 11 samples are bad'), '11 of 11 samples are bad'),
    (TooManyBadSamples(WORKER), '11 of 11 samples are bad'),
    (DatasetError('a.json: image 3'), 'a.json: image 3'), (WriteError('disk full'), 'disk full')])
def test_what_files_are_to_blame_for_is_one_line(error, said):
    with pytest.raises(SystemExit) as end, run_errors_in_one_line('train'):
        raise error
    assert end.value.code == f'train: error: {said}'


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ValueError, match='^shape$'), run_errors_in_one_line('train'):
        raise ValueError('shape')


def test_a_dataset_that_cannot_be_opened_is_named(tmp_path):
    file = tmp_path / 'broken.json'
    file.write_text('{')
    dataset = dict(type='mvp_mm.CocoInstanceDataset', ann_file=str(file), data_prefix=dict(img=''),
                   tasks=[], pipeline=[])
    with pytest.raises(DatasetError, match='broken.json'):
        PerceptionRunner.build_dataloader(dict(batch_size=1, dataset=dataset, sampler=dict(
            type='DefaultSampler', shuffle=False)))
