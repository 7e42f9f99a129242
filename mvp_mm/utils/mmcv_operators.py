# Copyright (c) mvp_mm authors. All rights reserved.
"""Lets mmdet import where mmcv was installed without its compiled operators.

pip builds mmcv without them when it finds no torch in the build environment, as in
``pip install mvp_mm``. mmdet guards its imports of single operators, but one of its modules imports
the package ``mmcv.ops`` itself, and with it every model of mmdet.
"""
from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def has_operators() -> bool:
    """Tell whether mmcv has its compiled operators (they may still fail to load)."""
    return find_spec('mmcv._ext') is not None


class _EmptyOperators(MetaPathFinder, Loader):
    """Finds an empty ``mmcv.ops`` where nothing is compiled; each operator is an ImportError."""

    def find_spec(self, fullname: str, path: object = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != 'mmcv.ops' or has_operators():
            return None
        return ModuleSpec(fullname, self, origin='mmcv without compiled operators')

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = 'Empty: mmcv was installed without its compiled operators.'


def allow_missing_operators() -> None:
    """Make ``import mmcv.ops`` an empty module where mmcv has no compiled operators.

    Where it has them nothing changes. Imports nothing itself.
    """
    if not any(isinstance(finder, _EmptyOperators) for finder in sys.meta_path):
        sys.meta_path.insert(0, _EmptyOperators())
