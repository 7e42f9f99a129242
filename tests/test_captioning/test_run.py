# Copyright (c) mvp_mm authors. All rights reserved.
"""Captioning against a server process on loopback."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from mvp_mm.captioning.backends import (
    Answer,
    CaptionerError,
    CaptionSampling,
    ImageError,
    load_image,
)
from mvp_mm.captioning.endpoint import EndpointBackend, Retries, data_url, retry_after
from mvp_mm.captioning.images import images_of_dataset, images_of_folder
from mvp_mm.captioning.merge import StoreCheck, write_merged
from mvp_mm.captioning.run import caption_shard, make_manifest
from mvp_mm.datasets.captions import CaptionStore
from mvp_mm.datasets.captions.shards import Shard
from tests.test_datasets.small_data import config

ROOT = Path(__file__).parents[2]
PROMPT = 'What is there?'


@pytest.fixture
def serve():
    """Start servers; each is told its rules and returns its address."""
    processes = []

    def start(**rules):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name('caption_server.py')),
             json.dumps(rules)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return f'http://127.0.0.1:{int(process.stdout.readline())}'

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def folder(tmp_path):
    """Twelve images in two folders, of which some have the same bare name."""
    rng = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / 'img' / f'patch{index % 2}' / f'{index // 2}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / 'img'


def caption(address, folder, store, shard='0/1', prompt=PROMPT, captioner='vlm', retry=False,
            limit=50, **options):
    sampling = CaptionSampling(seed=3)
    options = dict(dict(concurrency=3, timeout=1.0, retries=Retries(4, 0.01)), **options)
    backend = EndpointBackend(f'{address}/v1', 'm', prompt, sampling, **options)
    images = images_of_folder(folder)
    manifest = make_manifest(captioner, backend, prompt, sampling, images.names,
                             Shard.parse(shard))
    return caption_shard(store, manifest, images, backend, retry_failed=retry,
                         max_failures_in_a_row=limit)


def lines(store, name='vlm/00000-of-00001.jsonl'):
    return [json.loads(line) for line in (store / name).read_text().splitlines()]


def told(address):
    return httpx.get(address).json()


def test_every_image_is_captioned_once_with_bounded_concurrency(serve, folder, tmp_path):
    address = serve(delay=0.05)
    report = caption(address, folder, tmp_path / 's', api_key='secret')
    assert report.complete and report.captioned == 12
    seen = told(address)
    assert sorted(len(times) for times in seen['requests'].values()) == [1] * 12
    assert seen['most'] == 3
    body = seen['bodies'][0]
    assert (body['model'], body['seed'], body['max_tokens']) == ('m', 3, 256)
    assert body['auth'] == 'Bearer secret' and body['messages'] == 'data:image/jpeg;base64'
    assert 'secret' not in (tmp_path / 's/vlm/00000-of-00001.json').read_text()
    store = CaptionStore(str(tmp_path / 's'))
    assert store.get('patch0/3.jpg') != store.get('patch1/3.jpg')
    assert store.get('train/patch0/3.jpg')[0].startswith('A picture with')


def test_passing_faults_are_retried_and_retry_after_is_honoured(serve, folder, tmp_path):
    address = serve(faults={'0': [429, 500], '1': ['hang up'], '2': [503], '3': ['slow']})
    assert caption(address, folder, tmp_path / 's').complete
    times = list(told(address)['requests'].values())
    assert [len(t) for t in times[:5]] == [3, 2, 2, 2, 1]
    assert times[0][1] - times[0][0] >= 0.3


def test_a_permanent_error_is_recorded_and_asked_again_only_on_demand(serve, folder, tmp_path):
    address = serve(faults={'4': [400]})
    report = caption(address, folder, tmp_path / 's')
    (name, error), = report.failed.items()
    assert not report.complete and 'fault 400' in error
    assert lines(tmp_path / 's', 'vlm/00000-of-00001.failed.jsonl') == [
        dict(image=name, error=error)]
    check = StoreCheck(tmp_path / 's')
    assert not check.complete and check.coverage['vlm'].failed == {name: error}
    assert f'{name} cannot be captioned: status 400' in check.summary()
    assert not caption(address, folder, tmp_path / 's').complete
    assert sum(len(t) for t in told(address)['requests'].values()) == 12
    assert caption(address, folder, tmp_path / 's', retry=True).complete
    assert StoreCheck(tmp_path / 's').complete


def test_images_without_an_answer_are_asked_again_by_the_next_run(serve, folder, tmp_path):
    address = serve(faults={'0': [500] * 4})
    report = caption(address, folder, tmp_path / 's')
    assert len(report.unanswered) == 1 and not report.failed and not report.complete
    assert caption(address, folder, tmp_path / 's').complete


def test_a_broken_image_is_a_failure_of_its_own(serve, folder, tmp_path):
    (folder / 'patch0/1.jpg').write_bytes((folder / 'patch0/1.jpg').read_bytes()[:200])
    (folder / 'patch0/2.jpg').write_bytes(b'')
    report = caption(serve(), folder, tmp_path / 's')
    assert sorted(report.failed) == ['patch0/1.jpg', 'patch0/2.jpg'] and report.captioned == 10


@pytest.mark.parametrize('faults, message', [
    ([404], 'answered with status 404'), ([400], '3 images failed in a row')])
def test_a_useless_server_stops_the_run(serve, folder, tmp_path, faults, message):
    address = serve(faults={str(k): faults for k in range(12)})
    with pytest.raises(CaptionerError, match=message):
        caption(address, folder, tmp_path / 's', limit=3, concurrency=1)
    assert sum(len(t) for t in told(address)['requests'].values()) <= 3


def test_killed_in_the_middle_nothing_is_lost_or_done_twice(serve, folder, tmp_path):
    address, store = serve(delay=0.4), tmp_path / 's'
    file = store / 'vlm/00000-of-00001.jsonl'
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools/data/auto_caption.py'), '--images', str(folder),
         '--out', str(store), '--captioner', 'vlm', '--endpoint', f'{address}/v1', '--model', 'm',
         '--prompt', PROMPT, '--seed', '3', '--concurrency', '2'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (file.is_file() and file.read_bytes().count(b'\n') >= 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    recorded = {line['caption']: line['image'] for line in lines(store)}
    assert 4 <= len(recorded) < 12
    with open(file, 'ab') as stream:
        stream.write(b'{"image": "patch0/5.jpg", "capt')
    # The answers under way when the process died end before the count begins again.
    time.sleep(0.5)
    before = told(address)['requests']
    assert len(before) <= len(recorded) + 2

    report = caption(address, folder, store)
    assert report.complete and report.before == len(recorded)
    images = Counter(line['image'] for line in lines(store))
    assert images == dict.fromkeys(images_of_folder(folder).names, 1)
    for digest, times in told(address)['requests'].items():
        known = f'A picture with the digest {digest}.' in recorded
        in_flight = digest in before and not known
        assert len(times) == 1 + in_flight
    assert StoreCheck(store).complete


def test_two_shards_merged_equal_one_run(serve, folder, tmp_path):
    address = serve()
    for captioner in ('one', 'other'):
        assert caption(address, folder, tmp_path / 'whole', captioner=captioner).complete
        for shard in ('0/2', '1/2'):
            assert caption(address, folder, tmp_path / 'parts', shard, captioner=captioner).complete
    for name in ('whole', 'parts'):
        assert write_merged(StoreCheck(tmp_path / name), tmp_path / f'{name}.jsonl') == 12
    assert (tmp_path / 'whole.jsonl').read_bytes() == (tmp_path / 'parts.jsonl').read_bytes()


@pytest.mark.parametrize('change, message', [
    (dict(prompt='Else?'), r'prompt: .What is there\?. there, .Else\?. here'),
    (dict(shard='0/2'), 'number of shards: 1 there, 2 here')])
def test_a_run_made_otherwise_is_refused(serve, folder, tmp_path, change, message):
    address = serve()
    caption(address, folder, tmp_path / 's')
    before = (tmp_path / 's/vlm/00000-of-00001.jsonl').read_bytes()
    with pytest.raises(ValueError, match=message):
        caption(address, folder, tmp_path / 's', **change)
    assert (tmp_path / 's/vlm/00000-of-00001.jsonl').read_bytes() == before


def test_another_list_of_images_is_refused(serve, folder, tmp_path):
    address = serve()
    caption(address, folder, tmp_path / 's')
    (folder / 'patch0/0.jpg').rename(folder / 'patch0/new.jpg')
    with pytest.raises(ValueError, match=r"1 are new \['patch0/new.jpg'\], 1 are gone"):
        caption(address, folder, tmp_path / 's')


def test_an_answer_at_the_length_limit_is_marked(serve, folder, tmp_path):
    caption(serve(finish='length'), folder, tmp_path / 's')
    assert all(line['cut'] for line in lines(tmp_path / 's'))


def test_images_of_a_dataset_of_a_config(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    (tmp_path / 'c.py').write_text(f'train_dataloader = dict(dataset=dict('
                                   f'type="ConcatDataset", datasets=[{cfg!r}]))')
    images = images_of_dataset(tmp_path / 'c.py', 'train_dataloader.dataset')
    assert images.names == ['a.jpg', 'b.jpg'] and images.path('a.jpg').is_file()
    with pytest.raises(ValueError, match='val_dataloader is missing'):
        images_of_dataset(tmp_path / 'c.py', 'val_dataloader.dataset')


class SlowFirst:
    """Answers the first image after another, whose line may have to be written before."""

    name, model, settings, batch_size, concurrency = 'fake', 'm', {}, 1, 2

    def __init__(self, first, is_written):
        self.first, self.another, self.is_written = first, threading.Event(), is_written

    def caption(self, images):
        image, = images
        if image == self.first:
            assert self.another.wait(60)
            end = time.monotonic() + 60
            while not self.is_written() and time.monotonic() < end:
                time.sleep(0.01)
        else:
            self.another.set()
        return [Answer(image.name)]

    def stop(self):
        pass


@pytest.mark.parametrize('in_order', [False, True])
def test_lines_may_be_kept_in_the_order_of_the_images(folder, tmp_path, in_order):
    images = images_of_folder(folder)
    store = tmp_path / 'store/vlm/00000-of-00001.jsonl'
    # A line that waits for the first image's is never written before it.
    backend = SlowFirst(images.path(images.names[0]),
                        lambda: in_order or (store.exists() and b'\n' in store.read_bytes()))
    manifest = make_manifest('vlm', backend, PROMPT, CaptionSampling(), images.names,
                             Shard.parse('0/1'))
    caption_shard(tmp_path / 'store', manifest, images, backend, in_order=in_order)
    written = [line['image'] for line in lines(tmp_path / 'store')]
    assert sorted(written) == sorted(images.names)
    assert (written[0] == images.names[0]) is in_order
    assert not in_order or written == images.names


def test_what_any_reader_sees_alike_is_sent_as_it_is_and_the_rest_is_converted(tmp_path):
    pixels = np.full((4, 8, 3), 200, dtype=np.uint8)
    plain, turned, deep = (tmp_path / name for name in ('a.png', 'b.jpg', 'c.png'))
    Image.fromarray(pixels).save(plain)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(turned, exif=exif)
    Image.fromarray(np.full((4, 8), 51200, dtype=np.uint16)).save(deep)
    assert data_url(plain, None).startswith('data:image/png;base64,')
    assert load_image(turned, None)[0].size == (4, 8) and load_image(turned, None)[1] == ''
    assert load_image(deep, None)[0].getpixel((0, 0)) == (200, 200, 200)
    assert load_image(plain, 4)[0].size == (4, 2)
    with pytest.raises(ImageError, match='gone.jpg'):
        load_image(tmp_path / 'gone.jpg', None)


def test_retry_after_as_number_and_date():
    assert retry_after('2.5') == 2.5
    assert retry_after('Wed, 21 Oct 2015 07:28:00 GMT') == 0
    assert retry_after('soon') == retry_after(None) == 0
    assert Retries(3, 1.0).wait(1, asked=30.0) == 30.0
