# Copyright (c) mvp_mm authors. All rights reserved.
"""What the pages tell to type exists: scripts, options, configs, linked files."""
from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.test_docs.pages import PAGES, commands, links, name_of

# A page's placeholder of a config, and `$x` of a loop.
_CONFIG = re.compile(r'^(?:\.\./)*((?:configs|projects)/[\w/.+-]+\.py)$')


@cache
def options_of(script: str) -> frozenset[str]:
    """Long options that a script takes: its own, those of the modules it imports, --help."""
    path = ROOT / script
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.sh':
        wrapped = re.findall(r'\$TOOLS/(\w+\.py)', text)
        own = re.findall(r'^ +(--[\w-]+)\)', text, re.MULTILINE)    # branches of a `case`
        return frozenset({'--help', *own}.union(*(options_of(f'tools/{name}') for name in wrapped)))
    tree = ast.parse(text)
    found = {'--help'} | _added_options(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mvp_mm'):
            for source in _sources(node.module):
                found |= _added_options(ast.parse(source.read_text(encoding='utf-8')))
    return frozenset(found)


def _sources(module: str) -> list[Path]:
    place = ROOT / module.replace('.', '/')
    return [place.with_suffix('.py')] if not place.is_dir() else sorted(place.glob('*.py'))


def _added_options(tree: ast.AST) -> set[str]:
    return {arg.value for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument'
            for arg in node.args
            if isinstance(arg, ast.Constant) and str(arg.value).startswith('--')}


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_scripts_and_options_that_a_page_names_exist(page):
    wrong = []
    for script, arguments in commands(page.read_text(encoding='utf-8')):
        if not (ROOT / script).is_file():
            wrong.append(f'no script {script}')
            continue
        if script == 'tools/run_tests.sh':
            continue    # passes its arguments to pytest
        known = options_of(script)
        wrong += [f'{script} has no {option}' for option in
                  (argument.split('=')[0] for argument in arguments)
                  if option.startswith('--') and option not in known]
        wrong += [f'no config {found[1]}' for found in map(_CONFIG.match, arguments)
                  if found and not (ROOT / found[1]).is_file()]
    assert not wrong


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_files_that_a_page_links_to_exist(page):
    text = page.read_text(encoding='utf-8')
    missing = [target for target in links(text) if not (page.parent / target).exists()]
    assert not missing


def is_defined(name: str) -> bool:
    """Whether `mvp_mm.a.b.Name` is a module, or a name that its module or package defines."""
    place = ROOT
    for part in name.split('.'):
        if (place / part).is_dir():
            place = place / part
        elif (place / f'{part}.py').is_file():
            place = place / f'{part}.py'
        else:
            source = place / '__init__.py' if place.is_dir() else place
            return re.search(rf'\b{part}\b', source.read_text(encoding='utf-8')) is not None
    return True


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_modules_and_source_files_that_a_page_names_exist(page):
    text = page.read_text(encoding='utf-8')
    if page.name == 'CHANGELOG.md':    # names what is gone
        text = re.sub(r'- Renamed:.*?\n\n', '', text, flags=re.DOTALL)
    files = set(re.findall(r'\b(?:mvp_mm|tests|configs|projects)/[\w/+.-]+\.(?:py|cpp)\b', text))
    names = set(re.findall(r'\bmvp_mm(?:\.\w+)+', text))
    assert not [name for name in files
                if not (ROOT / name).is_file() and not (page.parent / name).is_file()]
    assert not [name for name in names if not is_defined(name)]


def test_classes_of_the_architecture_page_stand_in_the_files_that_it_names():
    text = (ROOT / 'docs/reference/architecture.md').read_text(encoding='utf-8')
    section = text[text.index('## From the paper to the code'):text.index('## Losses')]
    missing, file = [], None
    for row in section.splitlines():
        cells = row.strip('|').split('|')
        if len(cells) != 3 or '`' not in cells[1]:
            continue
        named = re.findall(r'`([\w/.-]+\.py)`', cells[2])
        # "the same" means the file of the row above; a bare name stands beside the first file.
        folder = Path(named[0]).parent if named else None
        file = [name if '/' in name else folder / name for name in named] or file
        sources = ''.join((ROOT / name).read_text(encoding='utf-8') for name in file)
        missing += [name for name in re.findall(r'`([A-Za-z_.]+)`', cells[1])
                    if not re.search(rf"\b{name.split('.')[-1]}\b", sources)]
    assert not missing


def test_a_wrong_script_option_and_config_would_be_found():
    named = commands('```bash\nPYTHONPATH=. python tools/train.py configs/none.py \\\n'
                     '    --cfg-optoins a=1   # --comment\n```\nand `tools/gone.py x`')
    assert named == [('tools/train.py', ['configs/none.py', '--cfg-optoins', 'a=1']),
                     ('tools/gone.py', ['x'])]
    assert '--cfg-optoins' not in options_of('tools/train.py')
    # Its own option, one of a module that it imports, and one of the script that a wrapper runs.
    assert {'--load-from', '--cfg-options'} <= options_of('tools/train.py')
    assert '--load-from' in options_of('tools/dist_train.sh')
