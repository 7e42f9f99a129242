# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import contextlib
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.test_serving.fakes import FakeModel

pytest.importorskip('fastapi', reason="serving needs 'mvp_mm[serve]'")
pytest.importorskip('prometheus_client', reason="serving needs 'mvp_mm[serve]'")


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def client_of(model):
    """Make an HTTP client of a server with given limits, inside of this process."""
    from starlette.testclient import TestClient

    from mvp_mm.serving.app import build_app
    from mvp_mm.serving.limits import Limits

    with contextlib.ExitStack() as stack:
        def make(hosts=None, folder=None, examples=(), **limits):
            app = build_app(model, Limits.of(**limits), hosts=hosts, folder=folder,
                            examples=examples)
            return stack.enter_context(TestClient(app, base_url='http://127.0.0.1'))

        yield make
        model.go_on.set()


@pytest.fixture
def serve(model):
    """Run a real server in a thread; returns its address and itself."""
    from mvp_mm.serving.app import build_app
    from mvp_mm.serving.launch import make_server
    from mvp_mm.serving.limits import Limits

    running = []

    def start(folder=None, examples=(), served=None, **limits):
        limits = Limits.of(**limits)
        app = build_app(served or model, limits, folder=folder, examples=examples)
        server = make_server(app, limits)
        listening = socket.create_server(('127.0.0.1', 0), backlog=512)
        thread = threading.Thread(target=server.run, kwargs=dict(sockets=[listening]))
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        server.thread = thread
        return f'http://127.0.0.1:{listening.getsockname()[1]}', server

    yield start
    model.go_on.set()
    for server, thread in running:
        server.handle_exit(15, None)
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope='module')
def page_server(tmp_path_factory):
    """A server with a page in a thread: address, model, application, folder of its files."""
    from mvp_mm.serving.app import build_app
    from mvp_mm.serving.examples import draw_examples
    from mvp_mm.serving.launch import make_server
    from mvp_mm.serving.limits import Limits

    folder = tmp_path_factory.mktemp('page').resolve()
    (folder / 'examples').mkdir()
    model, limits = FakeModel(), Limits(requests_per_minute=0)
    app = build_app(model, limits, folder=folder, examples=draw_examples(folder / 'examples'))
    server = make_server(app, limits)
    listening = socket.create_server(('127.0.0.1', 0))
    thread = threading.Thread(target=server.run, kwargs=dict(sockets=[listening]))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f'http://127.0.0.1:{listening.getsockname()[1]}', model, app, folder
    server.handle_exit(15, None)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope='module')
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp('own') / 'photograph.jpg'
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((400, 300)).save(path)
    return path
