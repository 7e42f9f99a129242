# Copyright (c) mvp_mm authors. All rights reserved.
"""Metrics of one model do not replace those of another."""
from __future__ import annotations

import json

import pytest

from mvp_mm.cli.actions.test import check_free, source_file
from mvp_mm.engine.config_error import ConfigError

SOURCE = dict(config='all.py', checkpoint='a.pth')


@pytest.fixture
def target(tmp_path):
    """Metrics of ``SOURCE``."""
    path = tmp_path / 'metrics.json'
    path.write_text('{}')
    source_file(path).write_text(json.dumps(SOURCE))
    return path


@pytest.mark.parametrize('other', [
    dict(SOURCE, checkpoint='b.pth'), dict(SOURCE, config='refcoco.py')])
def test_metrics_of_another_model_are_kept_unless_asked(target, other):
    with pytest.raises(ConfigError, match='metrics.json holds the metrics of a.pth with all.py'):
        check_free(target, other, overwrite=False)
    check_free(target, other, overwrite=True)


def test_metrics_of_an_unknown_model_are_kept(target):
    source_file(target).unlink()
    with pytest.raises(ConfigError, match='an unknown model'):
        check_free(target, SOURCE, overwrite=False)


def test_the_same_model_may_be_tested_again(target, tmp_path):
    check_free(target, SOURCE, overwrite=False)
    check_free(tmp_path / 'new.json', SOURCE, overwrite=False)
