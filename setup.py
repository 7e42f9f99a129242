# Copyright (c) mvp_mm authors. All rights reserved.
"""Puts configs, tools and demo into the wheel; all metadata stands in ``pyproject.toml``."""
from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'demo')
CHECKOUT_ONLY = {'setup_env.sh', 'run_tests.sh', 'quickstart.sh', 'publish_tiny.sh'}


class BuildWithShipped(build_py):
    """Copies the shipped folders to ``mvp_mm/.mim``, where OpenMMLab's packages keep them.

    ``mvp_mm.utils.shipped`` finds them there. An editable install uses the checkout's own.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        for source, target in self._shipped_files():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def _shipped_files(self) -> list[tuple[Path, Path]]:
        target = Path(self.build_lib) / 'mvp_mm' / '.mim'
        return [(file, target / file.relative_to(ROOT))
                for folder in SHIPPED for file in sorted((ROOT / folder).rglob('*'))
                if file.is_file() and file.name not in CHECKOUT_ONLY
                and '__pycache__' not in file.parts]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """List what :meth:`run` writes."""
        outputs = super().get_outputs(include_bytecode)
        return outputs + [str(target) for _, target in self._shipped_files()]


setup(cmdclass={'build_py': BuildWithShipped})
