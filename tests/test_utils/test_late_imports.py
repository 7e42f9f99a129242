# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mvp_mm.utils.late_imports import UNUSED, LateModule, late_imports

# A library whose module imports a heavy one in every way that libraries do.
LIBRARY = '''
import heavy
import heavy.drawing as drawing
from heavy.drawing import Shape, area

def is_shape(thing):
    return isinstance(thing, Shape)

def measure():
    return area(), drawing.Shape().sides, heavy.NAME
'''
ANSWER = '''
import sys
import numpy as np
from mvp_mm import MVP
from mvp_mm.utils.late_imports import LateModule

image = np.zeros((64, 64, 3), dtype=np.uint8)
MVP('tiny', device='cpu')(image, words=['red circle', 'grass'], channels='rgb', thinking=False)
print(sorted({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1:])))
print([name for name, module in sys.modules.items() if isinstance(module, LateModule)])
'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / 'heavy').mkdir()
    (tmp_path / 'heavy' / '__init__.py').write_text("NAME = 'heavy'\n__version__ = '2.0'\n")
    (tmp_path / 'heavy' / 'drawing.py').write_text(
        'class Shape:\n    sides = 4\n\ndef area():\n    return 7\n')
    (tmp_path / 'library.py').write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ('library', 'heavy', 'heavy.drawing'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return 'library'


def test_an_answer_imports_no_library_of_training_or_drawing() -> None:
    heavy = (*UNUSED, 'pandas', 'numba', 'tensorboard', 'IPython', 'datasets', 'sklearn')
    done = subprocess.run([sys.executable, '-c', ANSWER, *heavy], capture_output=True, text=True,
                          check=True)
    assert done.stdout.splitlines()[-2:] == ['[]', '[]']


def test_a_put_off_module_is_imported_when_it_is_used(library: str) -> None:
    with late_imports(['heavy']):
        module = importlib.import_module(library)
    assert 'heavy' not in sys.modules
    assert module.measure() == (7, 4, 'heavy')
    assert 'heavy.drawing' in sys.modules


def test_a_put_off_class_knows_its_instances(library: str) -> None:
    with late_imports(['heavy']):
        module = importlib.import_module(library)
    shape = importlib.import_module('heavy.drawing').Shape()
    assert module.is_shape(shape) and not module.is_shape(3)


def test_a_use_within_the_block_imports_the_package_itself(library: str) -> None:
    with late_imports(['heavy']):
        module = importlib.import_module(library)
        assert module.measure() == (7, 4, 'heavy')
        assert not isinstance(sys.modules['heavy'], LateModule)


def test_a_put_off_class_can_be_derived_from(library: str) -> None:
    with late_imports(['heavy']):
        module = importlib.import_module(library)

        class Square(module.Shape):    # type: ignore[name-defined]
            pass
    assert Square.__mro__[1] is importlib.import_module('heavy.drawing').Shape


def test_a_version_is_that_of_the_package(library: str) -> None:
    with late_imports(['heavy']):
        assert importlib.import_module('heavy').__version__ == '2.0'


def test_whoever_imports_it_after_the_block_gets_the_package(library: str) -> None:
    with late_imports(['heavy']):
        importlib.import_module(library)
    assert importlib.import_module('heavy').NAME == 'heavy'
    assert not isinstance(sys.modules['heavy'], LateModule)


def test_a_package_imported_before_is_left_alone(library: str) -> None:
    before = importlib.import_module('heavy')
    with late_imports(['heavy']):
        assert importlib.import_module(library).heavy is before


def test_a_package_that_is_not_installed_is_still_missing() -> None:
    with late_imports(['no_such_package']), pytest.raises(ModuleNotFoundError):
        importlib.import_module('no_such_package')


def test_an_error_in_the_block_puts_nothing_off_any_longer(library: str) -> None:
    finders = list(sys.meta_path)
    with pytest.raises(ZeroDivisionError), late_imports(['heavy']):
        importlib.import_module(library)
        raise ZeroDivisionError
    assert sys.meta_path == finders
    assert 'heavy' not in sys.modules


@pytest.mark.parametrize('collects', [True, False])
def test_garbage_is_collected_as_before_after_the_block(collects: bool) -> None:
    known = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with late_imports([]):
            assert not gc.isenabled()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if known else gc.disable)()
