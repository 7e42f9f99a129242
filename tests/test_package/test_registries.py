# Copyright (c) mvp_mm authors. All rights reserved.
"""Every registered type is found by its name, whatever was imported before."""
from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# One process forks per registry: each child has imported nothing of mvp_mm but the registries.
# Other packages are imported beforehand, which saves seconds per child.
_LOOK_UP = """
import json, os, sys
import mmdet.models, mmdet.datasets, timm, torch, transformers
import mvp_mm.registry
expected, missing = json.load(sys.stdin), []
for registry, names in expected.items():
    read, write = os.pipe()
    child = os.fork()
    if not child:
        found = []
        try:
            lookup = getattr(mvp_mm.registry, registry)
            found = [name for name in names if lookup.get(name) is not None]
        finally:
            os.write(write, json.dumps(found).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found = json.load(answer)
    os.waitpid(child, 0)
    missing += [f'{registry}: {name}' for name in names if name not in found]
print(json.dumps(missing))
"""


def registered_in(source: str) -> list[tuple[str, str]]:
    """Pairs of registry and name of the types that a module registers."""
    pairs = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) \
                    and call.func.attr == 'register_module':
                given = [k.value for k in call.keywords if k.arg == 'name'] + call.args[:1]
                names = ast.literal_eval(given[0]) if given else node.name
                pairs += [(call.func.value.id, name)
                          for name in ([names] if isinstance(names, str) else names)]
    return pairs


def registered_types() -> dict[str, list[str]]:
    """Names of all registered types of the package by registry."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / 'mvp_mm').rglob('*.py')):
        for registry, name in registered_in(path.read_text()):
            found[registry].append(name)
    return dict(found)


def not_found(expected: dict[str, list[str]], package_root: Path = ROOT) -> list[str]:
    """Types that fresh processes do not find by name."""
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', _LOOK_UP], input=json.dumps(expected), text=True,
        capture_output=True, check=False, cwd=package_root,
        env={**os.environ, 'PYTHONPATH': str(package_root)})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_registrations_are_found_in_a_source():
    source = ('@MODELS.register_module()\nclass Plain: ...\n'
              "@TASKS.register_module(name='other')\ndef function(): ...\n"
              "@HOOKS.register_module(name=['One', 'Two'])\nclass Named: ...\n"
              '@dataclass\nclass Unregistered: ...\n')
    assert registered_in(source) == [
        ('MODELS', 'Plain'), ('TASKS', 'other'), ('HOOKS', 'One'), ('HOOKS', 'Two')]


def test_every_registered_type_is_found_by_name_in_a_fresh_interpreter():
    expected = registered_types()
    assert {'MODELS', 'TASKS', 'DATASETS', 'TRANSFORMS', 'TOKENIZERS'} <= expected.keys()
    # A name that nobody registers shows that the look-up can fail.
    assert not_found({**expected, 'TASKS': [*expected['TASKS'], 'NoSuchTask']}) == [
        'TASKS: NoSuchTask']


@pytest.mark.parametrize('registry', ['TASKS', 'TOKENIZERS'])
def test_the_released_variant_is_in_the_registry_of_its_kind(registry):
    assert any(name.startswith('Released') for name in registered_types()[registry])
