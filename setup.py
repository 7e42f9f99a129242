# Copyright (c) mvp_mm authors. All rights reserved.
"""Packaging of mvp_mm. `tools/setup_env.sh` makes the pinned environment it runs in."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version without importing the package, which would need torch."""
    text = (ROOT / 'mvp_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '([^']+)'", text).group(1)


def read_requirements(name: str) -> list[str]:
    """Read ``requirements/<name>.txt`` without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    stripped = (line.split('#')[0].strip() for line in lines)
    return [line for line in stripped if line]


RUNTIME = sum((read_requirements(name) for name in ('torch', 'mmcv', 'runtime')), [])
TESTS = read_requirements('tests')
TENSORBOARD = read_requirements('tensorboard')

setup(
    name='mvp_mm',
    version=read_version(),
    description='Versatile perception with a visual LLM: boxes and masks from words and sentences',
    license='Apache-2.0',
    packages=find_packages(include=['mvp_mm', 'mvp_mm.*']),
    include_package_data=True,
    python_requires='>=3.10,<3.13',
    install_requires=RUNTIME,
    extras_require={
        'tests': TESTS,
        'tensorboard': TENSORBOARD,
        'all': TESTS + TENSORBOARD,
    },
    zip_safe=False,
)
