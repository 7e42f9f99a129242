# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm serve`` hands its options to the server."""
from __future__ import annotations

import pytest

import mvp_mm.serving
from mvp_mm.cli.command import run
from mvp_mm.cli.main import cli


@pytest.fixture
def launched(monkeypatch):
    calls = []
    monkeypatch.setattr(mvp_mm.serving, 'launch',
                        lambda *given, **named: calls.append((given, named)))
    return calls


def test_options_and_limits_reach_the_server(launched):
    assert run(cli, 'mvp-mm', [
        'serve', 'm', '--port', '0', '--no-page', '--allow-host', 'a', '--allow-host', 'b',
        '--limits', 'max_batch=4', 'batch_wait_ms=2.5', '--device', 'cpu']) == 0
    assert launched == [(('m', '127.0.0.1', 0, 'cpu'), dict(
        config=None, dtype=None, acceleration=False, page=False, examples=None, hosts=('a', 'b'),
        trusted_proxies=(), root_path='', max_batch=4, batch_wait_ms=2.5))]


@pytest.mark.parametrize('words, message', [
    (['--limits', 'max_bach=4'], 'max_batch'), (['--limits', 'max_batch=0'], 'max_batch must be'),
    (['--limits', 'max_batch=many'], 'many'), (['--port', '70000'], '70000')])
def test_wrong_limits_are_one_line(words, message, capsys):
    assert run(cli, 'mvp-mm', ['serve', 'no_model', *words]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('mvp-mm serve: error: ') and message in line
