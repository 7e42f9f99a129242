# Copyright (c) mvp_mm authors. All rights reserved.
"""The page: in a real browser, through Gradio's client, and what its routes refuse."""
from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.test_serving.fakes import FakeModel, image_bytes

pytest.importorskip('gradio', reason="the page needs 'mvp_mm[serve]'")
BROWSERS = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')


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


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f'no browser is installed; looked for {", ".join(BROWSERS)}')
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found[0], args=['--no-sandbox'])
        yield started
        started.close()


@pytest.fixture
def page(page_server, browser):
    """The page, loaded; afterwards nothing may have been asked of another host."""
    address = page_server[0]
    shown = browser.new_page(viewport=dict(width=1360, height=1000))
    elsewhere, faults = [], []
    shown.on('request', lambda r: r.url.startswith((address, 'data:', 'blob:'))
             or elsewhere.append(r.url))
    shown.on('pageerror', lambda error: faults.append(str(error)))
    shown.goto(address)
    shown.wait_for_selector('#ask')
    yield shown
    shown.close()
    assert not elsewhere and not faults


def put(page, photograph, **texts):
    """Choose a picture, fill in fields and press the button."""
    page.set_input_files('#picture input[type=file]', str(photograph))
    page.wait_for_selector('#picture img')
    for name, value in texts.items():
        page.locator(f'#{name} textarea, #{name} input').first.fill(value)
    page.click('#ask')


def test_a_browser_shows_masks_with_tags_on_hover(page, photograph):
    put(page, photograph, words='cat, dog')
    page.wait_for_selector('#answer .shape')
    page.mouse.move(5, 5)
    assert page.locator('#answer .chip').all_inner_texts() == ['dog 0.90', 'cat 0.50']
    opacities = "tags => tags.map(tag => getComputedStyle(tag).opacity)"
    assert page.eval_on_selector_all('#answer .tag', opacities) == ['0', '0']
    # The upper one of the two masks, which overlap but for their left edges.
    page.locator('#answer .shape path').last.hover()
    assert sorted(page.eval_on_selector_all('#answer .tag', opacities)) == ['0', '1']
    assert '400 x 300 pixels' in page.inner_text('#facts')
    assert page.locator('#caption textarea').input_value().startswith('400x300')


def test_a_browser_downloads_the_picture_and_the_record(page, photograph):
    put(page, photograph, text='the cat on the left')
    page.wait_for_selector('#answer .shape')
    with page.expect_download() as download:
        page.click('#png')
    with Image.open(download.value.path()) as image:
        assert image.size == (400, 300)
    with page.expect_download() as download:
        page.click('#json')
    record = json.loads(Path(download.value.path()).read_text())
    assert record['objects'][0]['label'] == 'the cat on the left'
    assert record['image_size'] == [300, 400]


def test_names_that_look_like_code_are_shown_not_run(page, photograph):
    name = '<img src=x onerror="window.broken = 1">'
    put(page, photograph, words=name)
    page.wait_for_selector('#answer .shape')
    assert page.locator('#answer .chip').first.inner_text() == f'{name} 0.50'
    assert page.evaluate('window.broken') is None


def test_a_browser_asks_about_an_example(page):
    page.locator('table tbody tr').first.click()
    page.wait_for_selector('#picture img')
    page.wait_for_function(
        "document.querySelector('#words textarea, #words input').value.includes('circle')")
    page.click('#ask')
    page.wait_for_selector('#answer .shape')
    assert 'circle 0.50' in page.locator('#answer .chip').all_inner_texts()


def test_a_fault_of_the_user_becomes_a_notice(page, photograph):
    put(page, photograph, words='cat', text='the cat')
    page.wait_for_selector('.toast-body')
    assert 'either words or text' in page.inner_text('.toast-body')


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
