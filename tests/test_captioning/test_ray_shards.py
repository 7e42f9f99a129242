# Copyright (c) mvp_mm authors. All rights reserved.
"""The same shards as the embedded way, worked on by actors of a local Ray cluster."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_mm.captioning import ray_shards
from mvp_mm.captioning.backends import Answer, CaptionerError, CaptionSampling, ImageError
from mvp_mm.captioning.images import images_of_folder
from mvp_mm.captioning.merge import StoreCheck, write_merged
from mvp_mm.captioning.run import caption_shard, make_manifest
from mvp_mm.datasets.captions.shards import Shard
from tests.helpers import ROOT, load_tool

IMAGES, SHARDS = 10, 4


class PixelBackend:
    """Tells the brightness of an image; a broken file is an error."""

    name, model, settings, batch_size, concurrency = 'pixels', 'none', {}, 2, 1

    def caption(self, images):
        answers = []
        for path in images:
            try:
                answers.append(Answer(f'brightness {np.asarray(Image.open(path)).mean():.0f}'))
            except OSError as error:
                answers.append(ImageError(str(error)))
        return answers

    def stop(self):
        pass


class PixelJob:
    """What an actor gets: it names folders, and loads the captioner there."""

    def __init__(self, folder, store, refused=()):
        self.folder, self.store, self.refused = folder, store, refused

    def __call__(self):
        images, backend, sampling = images_of_folder(self.folder), PixelBackend(), CaptionSampling()

        def work(shard):
            if shard.index in self.refused:
                raise CaptionerError('the server is gone')
            manifest = make_manifest('vlm', backend, 'How bright?', sampling, images.names, shard)
            return caption_shard(self.store, manifest, images, backend)
        return work


@pytest.fixture(scope='module')
def cluster():
    ray = pytest.importorskip('ray', reason='needs the extra "scale"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
        patch.delenv('RAY_ADDRESS', raising=False)
        patch.setenv('RAY_worker_niceness', '0')  # as other tests, which share the cores
        # Actors find the modules of the tests, and no GPU where there is none.
        patch.setenv('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
        ray.init(num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False,
                 log_to_driver=False, runtime_env=dict(env_vars=dict(PYTHONPATH=str(ROOT))))
        yield ray
        ray.shutdown()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'img').mkdir()
    for number in range(IMAGES):
        pixels = np.full((8, 8, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'img/{number}.png')
    return tmp_path / 'img'


def merged(store, out):
    check = StoreCheck(store)
    assert check.complete
    write_merged(check, out)
    return out.read_text()


def test_ray_writes_what_the_embedded_way_writes(cluster, folder, tmp_path):
    work = PixelJob(folder, tmp_path / 'embedded')()
    for index in range(SHARDS):
        work(Shard(index, SHARDS))
    # One shard was done before, without Ray.
    PixelJob(folder, tmp_path / 'ray')()(Shard(1, SHARDS))
    report = ray_shards.run_on_ray(PixelJob(folder, tmp_path / 'ray'), SHARDS, actors=2)
    assert (report.images, report.before, report.captioned) == (IMAGES, 3, 7) and report.complete
    assert merged(tmp_path / 'ray', tmp_path / 'r.jsonl') == merged(
        tmp_path / 'embedded', tmp_path / 'e.jsonl')


def test_shards_that_fail_are_named_and_the_others_are_done(cluster, folder, tmp_path):
    (folder / '3.png').write_bytes(b'no image')
    with pytest.raises(CaptionerError, match='1 of 4 shards failed, first shard 2/4: the server'):
        ray_shards.run_on_ray(PixelJob(folder, tmp_path / 'out', refused=(2, )), SHARDS)
    # What is missing is done by any process, with Ray or without.
    work = PixelJob(folder, tmp_path / 'out')()
    report = ray_shards.joined(work(Shard(index, SHARDS)) for index in range(SHARDS))
    assert list(report.failed) == ['3.png']
    assert (report.images, report.before, report.captioned) == (IMAGES, 7, 2)
    assert not report.complete


@pytest.fixture
def address():
    """A captioner's server, which makes the caption of an image from its pixels."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name('caption_server.py')), '{}'],
        stdout=subprocess.PIPE, text=True)
    yield f'http://127.0.0.1:{int(process.stdout.readline())}/v1'
    process.kill()
    process.wait()
    process.stdout.close()


def run_captions(monkeypatch, address, out, *options):
    monkeypatch.setattr(sys, 'argv', [
        'auto_caption', '--images', 'img', '--out', out, '--captioner', 'vlm', '--endpoint',
        address, '--model', 'm', *options])
    load_tool('data/auto_caption').main()


def test_captions_of_the_command_are_the_same_with_and_without_ray(
        cluster, folder, address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_captions(monkeypatch, address, 'embedded')
    run_captions(monkeypatch, address, 'ray', '--ray-shards', '3')
    assert capsys.readouterr().out.count(
        '10 images: 0 captioned before, 10 now, 0 cannot be') == 2
    assert len(list(Path('ray/vlm').glob('?????-of-00003.jsonl'))) == 3
    found = merged(Path('ray'), Path('r.jsonl'))
    assert len(found.splitlines()) == len(set(found.splitlines())) == IMAGES
    assert found == merged(Path('embedded'), Path('e.jsonl'))


def run_answers(monkeypatch, folder, out, *options):
    monkeypatch.setattr(sys, 'argv', [
        'answer_images', '--images', str(folder), '--out', str(out), '--name', 'shapes',
        '--weights', str(ROOT / 'mvp_mm/weights/tiny'), '--words', 'circle,square',
        '--no-thinking', '--device', 'cpu', *options])
    load_tool('answer_images').main()


def answers(out):
    lines = [json.loads(line) for path in sorted(Path(out, 'shapes').glob('?????-of-?????.jsonl'))
             for line in path.read_text().splitlines()]
    for line in lines:
        for answer in line['answers']:
            del answer['seconds']
    return sorted(lines, key=lambda line: line['image'])


def test_bulk_answers_are_the_same_with_and_without_ray(cluster, folder, tmp_path, monkeypatch,
                                                        capsys):
    for number in range(3, IMAGES):
        (folder / f'{number}.png').unlink()
    run_answers(monkeypatch, folder, tmp_path / 'embedded')
    run_answers(monkeypatch, folder, tmp_path / 'ray', '--ray-shards', '2')
    assert '3 images: 0 answered before, 3 now, 0 cannot be' in capsys.readouterr().out
    found = answers(tmp_path / 'ray')
    assert [line['image'] for line in found] == ['0.png', '1.png', '2.png']
    assert found == answers(tmp_path / 'embedded')


def test_an_unreadable_image_leaves_the_answers_of_its_batch(folder, tmp_path, monkeypatch):
    for number in range(2, IMAGES):
        (folder / f'{number}.png').unlink()
    (folder / '0.png').write_bytes(b'no image')
    with pytest.raises(SystemExit):
        run_answers(monkeypatch, folder, tmp_path / 'out', '--batch-size', '2')
    assert [line['image'] for line in answers(tmp_path / 'out')] == ['1.png']
    assert '0.png' in (tmp_path / 'out/shapes/00000-of-00001.failed.jsonl').read_text()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(CaptionerError, match=r'pip install "mvp_mm\[scale\]"'):
        ray_shards.run_on_ray(PixelJob('', ''), 1)
