# Copyright (c) mvp_mm authors. All rights reserved.
"""Imports libraries without those of their own imports that a forward pass never uses.

mmdet draws with matplotlib and augments lanes with imgaug, transformers knows losses that need
scipy and adapters of peft, and each imports them at once: a sixth of the time to the first answer.
"""
from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# What mmengine, mmdet and transformers import for training, drawing and augmentation alone.
UNUSED = ('imagecorruptions', 'imgaug', 'matplotlib', 'peft', 'scipy', 'shapely')


class LateName:
    """Stands for a class or function of a module, which is imported when it is first used.

    Args:
        module: Full name of the module.
        name: Name within it.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _resolve(self) -> Any:
        return getattr(_import_now(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what this stands for."""
        return self._resolve()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolve(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._resolve())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._resolve())

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self._resolve(),)


class LateModule(ModuleType):
    """Stands for a module where another has imported it; hands out the real one's attributes.

    While imports are put off, it hands out :class:`LateName` instead.
    """

    def __getattr__(self, name: str) -> Any:
        # inspect and the import system ask every module for such names.
        if name.startswith('__') and name != '__version__':
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        if sys.modules.get(self.__name__) is self and name != '__version__':
            return LateName(self.__name__, name)
        return getattr(_import_now(self.__name__), name)


class _LateFinder(MetaPathFinder, Loader):
    """Finds a stand-in for each module of some packages.

    Args:
        packages: Names of packages.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = set(packages)

    def find_spec(self, fullname: str, path: object = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition('.')[0] not in self._packages:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""

    def release(self, package: str) -> None:
        """Put a package's imports off no longer; nothing stands for its modules any more."""
        self._packages.discard(package)
        for name, module in list(sys.modules.items()):
            if isinstance(module, LateModule) and name.partition('.')[0] == package:
                del sys.modules[name]

    def release_all(self) -> None:
        """Put no import off any longer."""
        for package in list(self._packages):
            self.release(package)


@contextmanager
def late_imports(packages: Sequence[str] = UNUSED) -> Iterator[None]:
    """Put off the imports of some packages that other libraries import in this block.

    They are imported when such a library first uses them, or when anybody imports them after the
    block: ``sys.modules`` then knows nothing of it. A package that was imported before, or is not
    installed, is left alone. Garbage is not collected meanwhile: modules leave little, and
    looking for it among all that they define takes a fifth of the time of importing them.

    Args:
        packages: Names of packages.
    """
    finder = _LateFinder([name for name in packages
                          if name not in sys.modules and find_spec(name)])
    collects = gc.isenabled()
    gc.disable()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.release_all()
        if collects:
            _age_objects()
            gc.enable()


def _age_objects() -> None:
    """Move all objects to the oldest generation, so that the next collection does not visit them.

    Freezing and unfreezing does just that; what somebody else has frozen stays frozen.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()


def _import_now(name: str) -> ModuleType:
    """Import a module, whether or not its import is being put off."""
    for finder in sys.meta_path:
        if isinstance(finder, _LateFinder):
            finder.release(name.partition('.')[0])
    return importlib.import_module(name)
