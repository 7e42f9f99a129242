# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import importlib.util

import pytest

from tests.helpers import ROOT


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location(
        'check_commit_subject', ROOT / 'tools/misc/check_commit_subject.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('subject', [
    '[data] refuse boxes outside of the image', "Merge branch 'x'", 'fixup! [data] refuse boxes'])
def test_a_good_subject_passes(tool, subject, tmp_path):
    (tmp_path / 'message').write_text(f'{subject}\n\nA body as long as it likes, {"x" * 80}\n')
    tool.main([str(tmp_path / 'message')])


@pytest.mark.parametrize('subject, fault', [
    ('Refuse boxes', 'area'), ('[data]refuse', 'area'), ('[Data] refuse', 'area'), ('', 'area'),
    ('[data] ' + 'x' * 66, '73 characters')])
def test_a_bad_subject_is_refused_with_the_reason(tool, subject, fault, tmp_path):
    (tmp_path / 'message').write_text(f'{subject}\n')
    with pytest.raises(SystemExit, match=fault):
        tool.main([str(tmp_path / 'message')])
