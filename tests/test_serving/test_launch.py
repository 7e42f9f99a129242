# Copyright (c) mvp_mm authors. All rights reserved.
"""Starting the server: arguments, a real process with a real signal, examples."""
from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from mvp_mm.serving import Limits, launch
from mvp_mm.serving.__main__ import main
from mvp_mm.serving.launch import allowed_hosts
from tests.helpers import ROOT
from tests.test_serving.fakes import FakeModel, image_bytes

SCRIPT = """
import sys, time
from pathlib import Path
from mvp_mm.serving import launch
from tests.test_serving.fakes import FakeModel

class HeldModel(FakeModel):
    def _answer(self, images, question):
        while self.batches and not Path(sys.argv[1]).exists():    # all but the first question
            time.sleep(0.01)
        return super()._answer(images, question)

launch(HeldModel(), port=0, max_batch=1)
"""


def test_a_signal_lets_a_process_answer_and_leave_no_files(tmp_path):
    go_on = tmp_path / 'go_on'
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(go_on)], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, TMPDIR=str(tmp_path), PYTHONPATH=str(ROOT)))
    try:
        address = re.search(r'http://127\.0\.0\.1:\d+', process.stdout.readline())[0]
        assert list(tmp_path.glob('mvp_mm_serving_*'))
        assert 'gradio' in httpx.get(address).text
        statuses = []

        def ask(number):
            body = dict(image=base64.b64encode(image_bytes((number + 1, 1, 1))).decode(),
                        words=['cat'])
            statuses.append(httpx.post(f'{address}/predict', json=body, timeout=60).status_code)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while 'mvp_mm_in_flight 8.0' not in httpx.get(f'{address}/metrics').text:
            assert not statuses
        process.send_signal(signal.SIGTERM)
        go_on.touch()
        for thread in threads:
            thread.join(60)
        assert statuses == [200] * 8
        assert process.wait(60) == 0
        assert not list(tmp_path.glob('mvp_mm_serving_*'))
    finally:
        process.kill()
        process.wait()


def test_a_taken_port_is_said_before_the_model_is_loaded(capsys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert main(['no such model', '--port', str(port)]) == 1
    assert capsys.readouterr().err == (
        f'error: cannot listen on 127.0.0.1:{port}: Address already in use\n')


@pytest.mark.parametrize('arguments, said', [
    (dict(port=70_000), 'port must be'), (dict(max_bach=2), 'unknown limit'),
    (dict(host='no.such.host.invalid', port=0), 'not an address of this computer'),
    (dict(port=0, examples='no such folder'), 'no such folder'),
])
def test_a_wrong_argument_is_said(arguments, said):
    with pytest.raises(ValueError, match=said):
        launch(FakeModel(), **arguments)


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    with pytest.raises(ImportError, match=r"pip install 'mvp_mm\[serve\]'"):
        launch(FakeModel(), port=0)


def test_the_module_imports_without_the_optional_packages():
    code = ("import sys\n"
            "for name in ('fastapi', 'gradio', 'uvicorn', 'prometheus_client', 'pydantic'):\n"
            "    sys.modules[name] = None\n"
            "import mvp_mm.serving, mvp_mm.serving.__main__")
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_every_limit_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(['--help'])
    said = capsys.readouterr().out
    for limit in fields(Limits):
        assert '--' + limit.name.replace('_', '-') in said


def test_names_are_checked_on_loopback_alone():
    assert 'evil.example' not in allowed_hosts('127.0.0.1', ())
    assert allowed_hosts('0.0.0.0', ()) is None
    assert allowed_hosts('0.0.0.0', ('A.example',)) == {'0.0.0.0', 'a.example'}


def save_images(folder, *names):
    for name in names:
        (folder / name).write_bytes(image_bytes())


def test_a_folder_of_pictures_makes_examples(tmp_path):
    from mvp_mm.serving.examples import copy_examples, read_examples

    save_images(tmp_path, 'b.png', 'a.png')
    (tmp_path / 'notes.txt').write_text('no picture')
    assert [e.path.name for e in read_examples(tmp_path)] == ['a.png', 'b.png']
    (tmp_path / 'examples.json').write_text(json.dumps([
        dict(image='b.png', words=['cat', 'sofa']), dict(image='a.png', text='the cat')]))
    examples = read_examples(tmp_path)
    assert [(e.words, e.text) for e in examples] == [('cat, sofa', ''), ('', 'the cat')]
    (tmp_path / 'copies').mkdir()
    copied = copy_examples(examples, tmp_path / 'copies')
    assert all(Path(e.path).parent == tmp_path / 'copies' for e in copied)


@pytest.mark.parametrize('index, said', [
    ('[', 'not valid JSON'), ('{}', 'must hold a list'), ('[]', 'has no image'),
    ('[{"image": "../b.png", "text": "it"}]', 'entry 0: image must be the name of a file'),
    ('[{"image": "a.png"}]', 'entry 0: .*give words, text or a task'),
    ('[{"image": "none.png", "text": "it"}]', 'none.png'),
    ('[{"image": "bad.png", "text": "it"}]', 'bad.png'),
])
def test_a_wrong_index_of_examples_is_said(tmp_path, index, said):
    from mvp_mm.serving.examples import read_examples

    save_images(tmp_path, 'a.png')
    (tmp_path / 'bad.png').write_bytes(b'no picture')
    (tmp_path / 'examples.json').write_text(index)
    with pytest.raises(ValueError, match=said):
        read_examples(tmp_path)


def test_drawn_examples_ask_by_words_and_by_a_sentence(tmp_path):
    from mvp_mm.serving.examples import draw_examples

    first, second = draw_examples(tmp_path, 2)
    assert 'circle' in first.words and not first.text
    assert second.text and not second.words
    assert first.path.is_file() and second.path.is_file()
