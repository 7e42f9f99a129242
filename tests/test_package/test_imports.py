# Copyright (c) mvp_mm authors. All rights reserved.
"""Packages import downwards only, and no two of them import each other."""
from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the lowest layer to the highest. A package imports from its own layer or from lower ones.
LAYERS = (
    ('version', 'utils'),
    # Whoever builds from the registries loads weights by the rules of utils.
    ('registry',),
    ('structures', 'synthetic'),
    ('ops', 'tokenization', 'tasks'),
    ('datasets',),
    ('models', 'evaluation', 'visualization', 'converters'),
    ('engine', 'export'),
    ('apis', 'analysis', 'captioning', 'own_data', 'rehearsal'),
    ('serving',),
    ('cli',),
    ('__main__',),
)


def imported(node: ast.AST) -> Iterator[str]:
    """Modules that a source imports when it runs, also inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.dump(child.test):
            continue
        if isinstance(child, ast.ImportFrom):
            assert not child.level, f'relative import of {child.module}'
            yield child.module or ''
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child)


def dependencies(folder: Path, package: str) -> dict[str, set[str]]:
    """What each module or sub-package of a package imports of the others."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob('*.py')):
        part = path.relative_to(folder).parts[0].removesuffix('.py')
        for module in imported(ast.parse(path.read_text())):
            if module.startswith(f'{package}.'):
                found[part].add(module.removeprefix(f'{package}.').split('.')[0])
    return {part: targets - {part} for part, targets in found.items() if part != '__init__'}


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """A path of the graph that returns to its start; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node):], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if circle := visit(target, [*path, node]):
                return circle
        done.add(node)
        return []

    return next((circle for node in sorted(graph) if (circle := visit(node, []))), [])


def upward_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports from a higher layer."""
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    return sorted(f'{package} imports {target}' for package, targets in graph.items()
                  for target in targets if layer[target] > layer[package])


def test_every_package_has_a_layer():
    packages = {path.name for path in (ROOT / 'mvp_mm').iterdir()
                if (path / '__init__.py').is_file()}
    modules = {path.stem for path in (ROOT / 'mvp_mm').glob('*.py')} - {'__init__'}
    assert packages | modules == {package for layer in LAYERS for package in layer}


def test_no_package_imports_from_a_higher_layer():
    assert upward_in(dependencies(ROOT / 'mvp_mm', 'mvp_mm')) == []


@pytest.mark.parametrize('package', ['mvp_mm', 'mvp_mm.datasets'])
def test_no_packages_import_each_other(package):
    folder = ROOT.joinpath(*package.split('.'))
    assert circle_in(dependencies(folder, package)) == []


def test_circles_and_upward_imports_are_seen(tmp_path):
    (tmp_path / 'utils').mkdir()
    (tmp_path / 'engine').mkdir()
    (tmp_path / 'utils/a.py').write_text('def late():\n    from mvp_mm.engine import b\n')
    (tmp_path / 'engine/b.py').write_text('import mvp_mm.utils.a\n')
    graph = dependencies(tmp_path, 'mvp_mm')
    assert circle_in(graph) == ['engine', 'utils', 'engine']
    assert upward_in(graph) == ['utils imports engine']


def test_imports_for_type_checking_do_not_count():
    source = 'if TYPE_CHECKING:\n    from mvp_mm.engine import b\nfrom mvp_mm.utils import a\n'
    assert list(imported(ast.parse(source))) == ['mvp_mm.utils']
