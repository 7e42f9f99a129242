# Copyright (c) mvp_mm authors. All rights reserved.
"""The command that turns own labels into files and a config."""
from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from mvp_mm.engine import load_config
from mvp_mm.registry import DATASETS
from tests.helpers import load_tool, save_tokenizer
from tests.test_own_data.label_files import WRITERS, save_images


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; return its exit status and what it printed."""
    save_tokenizer(tmp_path / 'data/synthetic/tokenizer')
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['prepare_own_data', *map(str, args)])
        try:
            load_tool('data/prepare_own_data').main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr()
        return 0, capsys.readouterr()
    return call


@pytest.mark.parametrize('name', WRITERS)
def test_the_written_config_reads_the_labels(name, prepare, tmp_path):
    status, printed = prepare(WRITERS[name](tmp_path / 'labels'), '--out', 'own',
                              '--val-share', '0')
    assert status == 0, printed.err
    config = tmp_path / 'own/config.py'
    assert len(config.read_text().splitlines()) <= 15
    loaded = load_config(config)
    loaded.train_dataloader.dataset.index_dir = str(tmp_path / 'indices')
    dataset = DATASETS.build(loaded.train_dataloader.dataset)
    sample = dataset[0]['data_samples'][0]
    assert len(sample.gt_instances) >= 1
    assert loaded.val_dataloader.own.dataset.test_mode


@pytest.mark.parametrize(('name', 'offered'), [
    ('voc', {'detection'}), ('csv', {'referring_comprehension'})])
def test_a_model_of_boxes_is_asked_for_boxes_alone(name, offered, prepare, tmp_path):
    prepare(WRITERS[name](tmp_path / 'labels'), '--out', 'own')
    assert set(load_config(tmp_path / 'own/config.py').inferencer.tasks) == offered


def test_a_model_of_masks_is_asked_for_everything(prepare, tmp_path):
    prepare(WRITERS['labelme'](tmp_path / 'labels'), '--out', 'own')
    assert {'instance', 'detection'} < set(load_config(tmp_path / 'own/config.py').inferencer.tasks)


def test_the_sheet_shows_labelled_images_first(prepare, tmp_path):
    prepare(WRITERS['voc'](tmp_path / 'labels'), '--out', 'own')
    sheet = np.array(Image.open(tmp_path / 'own/sheet.png'))
    assert sheet.shape[1] > 2 * 480
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100


def test_faults_end_in_one_message_and_nothing_is_written(prepare, tmp_path):
    source = WRITERS['yolo'](tmp_path / 'labels')
    (source / 'labels/one.txt').write_text('7 0.5 0.5 0.1 0.1')
    status, printed = prepare(source, '--out', 'own')
    assert status == 2
    assert 'one.txt, line 1' in printed.err
    assert not (tmp_path / 'own').exists()


def test_a_folder_without_labels_ends_in_one_message(prepare, tmp_path):
    save_images(tmp_path / 'pictures')
    status, printed = prepare(tmp_path / 'pictures', '--out', 'own')
    assert (status, printed.err.count('\n')) == (2, 1)
