# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from mvp_mm.utils import mmcv_operators
from mvp_mm.utils.mmcv_operators import allow_missing_operators, has_operators
from tests.helpers import ROOT


@pytest.fixture
def without_operators(monkeypatch):
    """Mmcv as if it had been installed without them, its operators not yet imported."""
    import mmcv
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    for name in [name for name in sys.modules if name.split('.')[:2] == ['mmcv', 'ops']]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(mmcv, 'ops', raising=False)
    yield
    monkeypatch.undo()


def test_without_operators_the_package_imports_and_its_members_do_not(without_operators):
    assert not has_operators()
    ops = importlib.import_module('mmcv.ops')
    assert 'without its compiled operators' in ops.__doc__
    with pytest.raises(ImportError):
        from mmcv.ops import batched_nms  # noqa: F401
    with pytest.raises(ImportError):
        importlib.import_module('mmcv.ops.roi_align')


def test_with_operators_mmcv_s_own_package_is_imported():
    assert has_operators()
    assert importlib.import_module('mmcv.ops').__file__.endswith('ops/__init__.py')


def test_what_mmdet_says_without_operators_is_not_shown():
    code = ('import mvp_mm.registry\nfrom mmengine.logging import MMLogger\n'
            'say = MMLogger.get_current_instance().warning\n'
            'say("Line NMS is not compiled.\\nThis model cannot work without CUDA")\nsay("kept")')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    said = done.stdout + done.stderr
    assert 'kept' in said and 'without CUDA' not in said


def test_the_finder_is_there_once():
    allow_missing_operators()
    allow_missing_operators()
    found = [f for f in sys.meta_path if isinstance(f, mmcv_operators._EmptyOperators)]
    assert len(found) == 1
