# Copyright (c) mvp_mm authors. All rights reserved.
"""What a program says at a terminal while it is busy."""
from __future__ import annotations

import io

import pytest

from mvp_mm.utils.terminal import say_busy


class Screen(io.StringIO):
    """Standard error, maybe a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(('terminal', 'rank', 'shown'), [
    (True, None, 'mvp-mm: loading the model …\n'), (True, '0', 'mvp-mm: loading the model …\n'),
    (True, '1', ''), (False, None, '')])
def test_the_first_process_tells_a_terminal(monkeypatch, terminal, rank, shown):
    screen = Screen(terminal)
    monkeypatch.setattr('sys.stderr', screen)
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    say_busy('loading the model')
    assert screen.getvalue() == shown
