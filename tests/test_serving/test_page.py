# Copyright (c) mvp_mm authors. All rights reserved.
"""The page through Gradio's client, and what its routes refuse."""
from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.test_serving.fakes import image_bytes

pytest.importorskip('gradio', reason="the page needs 'mvp_mm[serve]'")


@pytest.fixture(scope='module')
def page_client(page_server, tmp_path_factory):
    from gradio_client import Client

    return Client(page_server[0], verbose=False, download_files=tmp_path_factory.mktemp('down'),
                  analytics_enabled=False)


def ask(client, photograph, *, words=None, text=None, stuff=None, task='by the question',
        thinking='as configured', own=False, threshold=0.3):
    from gradio_client import handle_file

    return client.predict(handle_file(str(photograph)), words, text, stuff, task, thinking, own,
                          threshold, api_name='/ask')


def test_gradios_client_gets_the_files(page_client, photograph):
    html, caption, facts, png, record = ask(
        page_client, photograph, words='cat, floor', stuff='floor', thinking='on', own=True,
        threshold=0.125)
    assert 'class="shape"' in html and '2 objects' in facts
    assert caption == '400x300 None True 0.125'
    answer = json.loads(Path(record['value'] if isinstance(record, dict) else record).read_text())
    assert [one['label'] for one in answer['objects']] == ['floor', 'cat']


def test_regions_of_stuff_are_told_apart(page_client, photograph):
    html, *_ = ask(page_client, photograph, words='sky, cat', stuff='sky', task='panoptic')
    assert html.count('class="shape stuff"') == 1 and html.count('class="shape"') == 1


def test_a_refusal_of_the_model_is_said(page_client, photograph):
    with pytest.raises(Exception, match='the sentence is refused'):
        ask(page_client, photograph, text='refuse me')


def test_an_inner_fault_is_not_said(page_client, photograph):
    with pytest.raises(Exception) as caught:
        ask(page_client, photograph, text='break')
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('content', [b'no image', b'', b'<svg xmlns="http://www.w3.org/2000/svg"/>',
                                     image_bytes(kind='JPEG', size=(320, 200))[:600]])
def test_a_file_that_is_no_picture_is_told_in_one_line(page_client, tmp_path, content):
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(Exception, match='^the image is not a (readable file|whole)') as caught:
        ask(page_client, tmp_path / 'a.jpg', words='cat')
    assert '\n' not in str(caught.value)


def join(address, file, route='queue/join'):
    """Ask through the page's own route about a file of one's choice."""
    config = httpx.get(f'{address}/config').json()
    number = next(d['id'] for d in config['dependencies'] if d['api_name'] == 'ask')
    data = [file, 'cat', None, None, 'by the question', 'as configured', False, 0.3]
    return httpx.post(f'{address}/gradio_api/{route}', json=dict(
        data=data, fn_index=number, session_hash='abc', trigger_id=None))


def as_file(**fields):
    return dict(meta={'_type': 'gradio.FileData'}, **fields)


@contextlib.contextmanager
def listener():
    """A web server on this machine that notes what is asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/a.png', asked
    finally:
        server.shutdown()
        server.server_close()


def test_no_file_of_the_computer_is_read(page_server, photograph):
    address, model, _, folder = page_server
    before = len(model.batches)
    for path in (str(photograph), '/etc/passwd', f'{folder}/../{photograph.parent.name}/'
                 f'{photograph.name}', '../../etc/passwd', str(folder), 7, None):
        for route in ('queue/join', 'run/predict'):
            assert join(address, as_file(path=path), route).status_code == 403, path
    assert join(address, [dict(deep=as_file(path=str(photograph)))]).status_code == 403
    time.sleep(0.2)
    assert len(model.batches) == before


def test_no_link_out_of_the_folder_is_followed(page_server, photograph):
    address, _, _, folder = page_server
    (folder / 'link.jpg').symlink_to(photograph)
    assert join(address, as_file(path=f'{folder}/link.jpg')).status_code == 403
    assert httpx.get(f'{address}/gradio_api/file={folder}/link.jpg').status_code == 404


def test_no_address_is_fetched(page_server):
    address = page_server[0]
    with listener() as (url, asked):
        assert join(address, as_file(path=url)).status_code == 403
        assert join(address, as_file(path=url, url=url)).status_code == 403
        for route in (f'file={url}', f'proxy={url}', f'file/{url}'):
            assert httpx.get(f'{address}/gradio_api/{route}').status_code == 404
        time.sleep(0.2)
        assert not asked


@pytest.mark.parametrize('route', [
    'file=/etc/passwd', 'file=%2Fetc%2Fpasswd', 'file=../../../../etc/passwd', 'file=',
    'runs', 'run-history/buckets', 'deep_link?session_hash=a', 'openapi.json',
    'custom_component/a/b/c/d', 'stream/a/b/c/playlist-file', 'call/ask/a'])
def test_routes_that_the_page_does_not_need_do_not_exist(page_server, route):
    assert httpx.get(f'{page_server[0]}/gradio_api/{route}').status_code == 404


@pytest.mark.parametrize('route', ['run/ask', 'api/ask', 'call/ask', 'call/v2/ask',
                                   'component_server', 'run-history/connect', 'stream/a'])
def test_questions_come_through_the_queue_alone(page_server, route):
    assert httpx.post(f'{page_server[0]}/gradio_api/{route}', json={}).status_code == 404


def test_a_question_cannot_pass_by_the_queue(page_server):
    address, model, _, folder = page_server
    before = len(model.batches)
    response = join(address, as_file(path=str(folder / 'examples/drawn_1.png')), 'run/predict')
    assert response.status_code >= 400 and len(model.batches) == before


def test_gradio_itself_checks_paths_too(page_server, photograph, monkeypatch):
    """A second wall: where the gate fails, a file outside is refused as well."""
    from mvp_mm.serving.gate import Gate

    address, model, _, folder = page_server
    monkeypatch.setattr(Gate, '_check_files', lambda self, body: None)
    for path, success in ((folder / 'examples/drawn_1.png', True), (photograph, False)):
        before = len(model.batches)
        assert join(address, as_file(path=str(path))).status_code == 200
        with httpx.stream('GET', f'{address}/gradio_api/queue/data?session_hash=abc') as events:
            for line in events.iter_lines():
                if 'process_completed' in line:
                    assert json.loads(line.removeprefix('data: '))['success'] is success
                    break
        assert len(model.batches) - before == success


def test_a_large_upload_is_refused(page_server):
    response = httpx.post(f'{page_server[0]}/gradio_api/upload',
                          files=dict(files=('a.png', b'x' * (17 * 2**20))))
    assert response.status_code == 413


def test_uploads_stop_when_the_folder_is_full(client_of, tmp_path, monkeypatch):
    # Set by each page for its process; restored for the page of the other tests.
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    client = client_of(folder=tmp_path, max_temporary_bytes=40_000, max_request_bytes=20_000)
    upload = dict(files=('a.png', image_bytes()))
    assert client.post('/gradio_api/upload', files=upload).status_code == 200
    (tmp_path / 'much').write_bytes(b'x' * 25_000)
    response = client.post('/gradio_api/upload', files=upload)
    assert response.status_code == 503 and 'Retry-After' in response.headers


def test_the_page_says_when_the_queue_is_full(page_server, page_client, photograph):
    service = page_server[2].state.service
    service.draining = True
    try:
        with pytest.raises(Exception, match=r'shutting down; try again in \d+ s'):
            ask(page_client, photograph, words='cat')
    finally:
        service.draining = False


def test_gradio_reports_nothing_to_its_makers():
    from mvp_mm.serving import page  # noqa: F401

    assert os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False'
