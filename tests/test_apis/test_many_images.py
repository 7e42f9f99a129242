# Copyright (c) mvp_mm authors. All rights reserved.
"""Many images in batches and processes: the same answers in the same order, and how many."""
from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.apis import MVP, many_images
from mvp_mm.apis.many_images import MOST_PIXELS, Plan, make_plan, map_in_order
from mvp_mm.utils.processes import FORKS

needs_fork = pytest.mark.skipif(not FORKS, reason='no fork on this system')
QUIET = dict(progress=False, thinking=False)


@pytest.fixture(scope='module')
def model(checkpoint):
    return MVP(checkpoint, 'cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(2)
    for number in range(7):
        size = (40 + 3 * number, 70, 3)
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f'{number}.png')
    return folder


def content(answers):
    return [{key: value for key, value in answer.to_dict().items() if key != 'seconds'}
            for answer in answers]


@needs_fork
@pytest.mark.parametrize('question', [
    dict(words=['circle', 'square'], threshold=0.),
    dict(words=['circle', 'grass'], stuff=['grass']),
    dict(text=['the circle', 'all squares', 'the star']),
    dict(text='the red circle', thinking=True)], ids=['words', 'stuff', 'sentences', 'thinking'])
def test_workers_give_the_answers_about_one_image_after_the_other(model, folder, question):
    question = {**QUIET, **question}
    found = model(folder, workers=3, batch_size=1, **question)
    alone = []
    for image in sorted(folder.iterdir()):
        answers = model(image, batch_size=1, **question)
        alone += answers if isinstance(answers, list) else [answers]
    assert content(found) == content(alone)
    for ours, single in zip(found, alone, strict=True):
        assert np.array_equal(ours.scores, single.scores)
        assert np.array_equal(ours.pixels(), single.pixels())


@pytest.mark.parametrize('question', [
    dict(words=['circle', 'square'], threshold=0.), dict(text='the red circle', thinking=True)],
    ids=['words', 'thinking'])
def test_batches_change_no_more_than_the_rounding(model, folder, question):
    question = {**QUIET, **question}
    for ours, alone in zip(model(folder, batch_size=4, **question),
                           model(folder, batch_size=1, **question), strict=True):
        assert (ours.labels, ours.caption) == (alone.labels, alone.caption)
        np.testing.assert_allclose(ours.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes, alone.boxes, atol=1e-3)


@needs_fork
def test_each_worker_is_a_process_with_one_thread(model, folder):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = list(model.stream(
            folder, words=['circle'], workers=2, batch_size=1, **QUIET,
            finish=lambda answer: (os.getpid(), torch.get_num_threads())))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [threads for _, threads in found] == [1] * 7
    assert os.getpid() not in {pid for pid, _ in found}


@needs_fork
def test_the_progress_bar_counts_the_answers_of_workers(model, folder, capsys):
    model(folder, words=['circle'], workers=2, batch_size=2, thinking=False)
    assert '/7 [' in capsys.readouterr().err


@needs_fork
def test_images_in_memory_reach_workers_and_come_back(model, folder):
    arrays = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    listed = model(arrays, words=['circle'], channels='rgb', workers=2, **QUIET)
    given = model(iter(arrays), words=['circle'], channels='rgb', workers=2, batch_size=2, **QUIET)
    for answers in (listed, given):
        assert [answer.image for answer in answers] == [f'image_{k}' for k in range(7)]
        assert all(np.array_equal(answer.pixels(), array)
                   for answer, array in zip(answers, arrays, strict=True))


@pytest.mark.parametrize('workers', [1, pytest.param(2, marks=needs_fork)])
@pytest.mark.parametrize('batch_size', [1, 4])
def test_answers_before_an_unreadable_image_are_given(model, folder, tmp_path, workers,
                                                      batch_size):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    files = [folder / '0.png', folder / '1.png', tmp_path / 'broken.png', folder / '2.png']
    answers = model.stream(files, words=['circle'], workers=workers, batch_size=batch_size, **QUIET)
    assert [next(answers).image[-5:] for _ in range(2)] == ['0.png', '1.png']
    with pytest.raises(ValueError, match=r'broken\.png'):
        next(answers)


@needs_fork
def test_a_killed_worker_is_named_with_its_images(model, folder):
    def finish(answer):
        if answer.image.endswith('3.png'):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer.image[-5:]

    names = model.stream(folder, words=['circle'], workers=2, batch_size=2, finish=finish, **QUIET)
    assert [next(names) for _ in range(2)] == ['0.png', '1.png']
    with pytest.raises(ChildProcessError, match=r'SIGKILL at one of .*2\.png \.\.\. .*3\.png'):
        next(names)


@pytest.mark.parametrize('workers', [1, pytest.param(2, marks=needs_fork)])
def test_a_folder_is_not_read_far_ahead(model, folder, workers):
    taken = []

    def images():
        for number in range(40):
            taken.append(number)
            yield folder / f'{number % 7}.png'

    answers = model.stream(images(), words=['circle'], workers=workers, batch_size=1, **QUIET)
    next(answers)
    assert len(taken) <= 2 * 2 + 2 + 2    # read, answered, and given
    answers.close()


@pytest.mark.parametrize('name', ['workers', 'batch_size'])
@pytest.mark.parametrize('value', [0, -1, 1.5, True, 'two'])
def test_a_wrong_number_is_refused(model, folder, name, value):
    with pytest.raises(ValueError, match=f'{name} must be a positive whole number'):
        model(folder, words=['circle'], **{name: value})


def test_a_gpu_takes_no_workers():
    with pytest.raises(ValueError, match='cannot use a GPU'):
        make_plan(torch.nn.Linear(2, 2, device='meta'), None, 2, 9)


@pytest.fixture
def network(monkeypatch):
    """Make a small or a large model of 6 parameters, for 6 cores."""
    monkeypatch.setenv('OMP_NUM_THREADS', '')
    monkeypatch.setattr(many_images, 'usable_cores', lambda: 6)
    monkeypatch.setattr(many_images, 'can_fork', lambda: True)

    def make(small=True, device='cpu'):
        monkeypatch.setattr(many_images, 'SMALL', 6 if small else 5)
        return torch.nn.Linear(2, 2, device=device)
    return make


@pytest.mark.parametrize('asked, expected', [
    (dict(images=100), Plan(8, MOST_PIXELS, 6)), (dict(images=None), Plan(1, None, 1)),
    (dict(images=30), Plan(8, MOST_PIXELS, 3)), (dict(images=10), Plan(8, MOST_PIXELS, 1)),
    (dict(images=1), Plan(1, MOST_PIXELS, 1)), (dict(images=9, workers=3), Plan(3, MOST_PIXELS, 3)),
    (dict(images=9, workers=3, batch_size=6), Plan(6, None, 2)),
    (dict(images=4, questions=6), Plan(8, MOST_PIXELS, 3)),
    (dict(images=2, questions=90), Plan(8, MOST_PIXELS, 2))])
def test_a_small_model_on_a_cpu_takes_batches_and_a_process_per_core(network, asked, expected):
    assert make_plan(network(), **{**dict(batch_size=None, workers=None, images=None), **asked}
                     ) == expected


@pytest.mark.parametrize('kind', [dict(small=False), dict(device='meta')], ids=['large', 'gpu'])
def test_other_models_take_one_image_after_the_other(network, kind):
    assert make_plan(network(**kind), None, None, 100) == Plan(1, None, 1)
    assert make_plan(network(**kind), 4, None, 100) == Plan(4, None, 1)


def test_the_user_bounds_the_processes_by_the_variable_of_openmp(network, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert make_plan(network(), None, None, 100).workers == 3


def test_where_forks_are_no_good_a_process_works_alone(network, monkeypatch):
    monkeypatch.setattr(many_images, 'can_fork', lambda: False)
    assert make_plan(network(), None, None, 100) == Plan(8, MOST_PIXELS, 1)


def test_large_images_make_small_batches():
    images = [(number, SimpleNamespace(pixels=pixels))
              for number, pixels in enumerate([3, 3, 5, 20, 1, 1, 1])]
    batches = many_images._batches(images, Plan(2, 10, 1))
    assert [[number for number, _ in batch] for batch in batches] == [[0, 1], [2], [3], [4, 5], [6]]


def test_what_was_taken_before_a_failure_is_given():
    def items():
        yield from range(3)
        raise OSError('no more')

    results = map_in_order(lambda number: number * 10, items(), 2, 8)
    assert [next(results) for _ in range(3)] == [0, 10, 20]
    with pytest.raises(OSError, match='no more'):
        next(results)
