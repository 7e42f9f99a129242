# Copyright (c) mvp_mm authors. All rights reserved.
"""Every promise of the pages on reliability, scale and weights names a test that exists."""
from __future__ import annotations

import ast
import re

import pytest

from tests.helpers import ROOT

PAGES = ('reliability', 'scale', 'weights')


def tables(page):
    """Rows of the tables of promises: the promise, and the test as it stands there."""
    text = (ROOT / f'docs/reference/{page}.md').read_text()
    return [row for table in re.findall(r'^\| promise \| test \|\n\|[-|]+\|\n((?:\|.*\n)+)', text,
                                        re.MULTILINE)
            for row in re.findall(r'^\| (.+?) \| (.*?) \|$', table, re.MULTILINE)]


ROWS = [row for page in PAGES for row in tables(page)]
PROMISES = [(promise, *found.groups()) for promise, test in ROWS
            if (found := re.fullmatch(r'`(test_\S+?)::(test_\S+?)`', test))]


def test_every_promise_names_one_test():
    assert len(ROWS) > 40
    named = {promise for promise, _, _ in PROMISES}
    assert [promise for promise, _ in ROWS if promise not in named] == []


@pytest.mark.parametrize('path, name', sorted({(path, name) for _, path, name in PROMISES}))
def test_the_test_of_a_promise_exists(path, name):
    tree = ast.parse((ROOT / 'tests' / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
