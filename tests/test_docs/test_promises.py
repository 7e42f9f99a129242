# Copyright (c) mvp_mm authors. All rights reserved.
"""Every promise of the page on reliability names a test that exists."""
from __future__ import annotations

import ast
import re

import pytest

from tests.helpers import ROOT

PROMISES = re.findall(r'^\| (.+?) \| `(test_\S+?)::(test_\S+?)` \|$',
                      (ROOT / 'docs/reference/reliability.md').read_text(), re.MULTILINE)


def test_the_page_makes_promises():
    assert len(PROMISES) > 25


@pytest.mark.parametrize('path, name', sorted({(path, name) for _, path, name in PROMISES}))
def test_the_test_of_a_promise_exists(path, name):
    tree = ast.parse((ROOT / 'tests' / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
