# Copyright (c) mvp_mm authors. All rights reserved.
"""Many images side by side: the same answers in the same order, and how many at a time."""
from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.apis import MVP, many_images
from mvp_mm.apis.many_images import choose_workers, map_in_order


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


@pytest.mark.parametrize('question', [
    dict(words=['circle', 'square'], threshold=0.),
    dict(words=['circle', 'grass'], stuff=['grass'], batch_size=2),
    dict(text=['the circle', 'all squares', 'the star'], batch_size=2),
    dict(text='the red circle', thinking=True)], ids=['words', 'batches', 'sentences', 'thinking'])
def test_workers_give_the_answers_of_one_in_order(model, folder, question):
    question = {'thinking': False, 'progress': False, **question}
    alone = model(folder, workers=1, **question)
    assert len(alone) == 7 * len(question.get('text') if isinstance(
        question.get('text'), list) else [0])
    assert content(model(folder, workers=3, **question)) == content(alone)


def test_workers_answer_at_the_same_time_with_one_thread_each(model, folder, monkeypatch):
    both, threads, encode = threading.Barrier(2, timeout=60), [], model._encode

    def meet(images):
        threads.append(torch.get_num_threads())
        if len(threads) <= 2:
            both.wait()    # passes only where two workers are in here together
        return encode(images)

    monkeypatch.setattr(model, '_encode', meet)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len(model(folder, words=['circle'], workers=2, progress=False)) == 7
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [1] * 7


def test_answers_before_an_unreadable_image_are_given(model, folder, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    files = [folder / '0.png', folder / '1.png', tmp_path / 'broken.png', folder / '2.png']
    answers = model.stream(files, words=['circle'], workers=2, progress=False, thinking=False)
    assert [next(answers).image[-5:] for _ in range(2)] == ['0.png', '1.png']
    with pytest.raises(ValueError, match=r'broken\.png'):
        next(answers)


def test_a_folder_is_not_read_far_ahead(model, folder):
    taken = []

    def images():
        for number in range(40):
            taken.append(number)
            yield folder / f'{number % 7}.png'

    answers = model.stream(images(), words=['circle'], workers=2, progress=False, thinking=False)
    next(answers)
    assert len(taken) <= 2 * 2 + 2 + 2    # read, answered, and given
    answers.close()


@pytest.mark.parametrize('workers', [0, -1, 1.5, True, 'two'])
def test_a_wrong_number_of_workers_is_refused(model, folder, workers):
    with pytest.raises(ValueError, match='workers must be a positive whole number'):
        model(folder, words=['circle'], workers=workers)


@pytest.mark.parametrize('wanted, device, small, expected', [
    ('', 'cpu', True, 6), ('3', 'cpu', True, 3), ('1', 'cpu', True, 1), ('', 'meta', True, 1),
    ('', 'cpu', False, 1)])
def test_a_small_model_on_a_cpu_takes_an_image_per_core(monkeypatch, wanted, device, small,
                                                        expected):
    monkeypatch.setenv('OMP_NUM_THREADS', wanted)
    monkeypatch.setattr(many_images, 'usable_cores', lambda: 6)
    monkeypatch.setattr(many_images, 'SMALL', 6 if small else 5)
    network = torch.nn.Linear(2, 2, device=device)    # of 6 parameters
    assert choose_workers(network) == expected
    assert choose_workers(network, 4) == 4


def test_what_was_taken_before_a_failure_is_given():
    def items():
        yield from range(3)
        raise OSError('no more')

    results = map_in_order(lambda number: number * 10, items(), 2, 8)
    assert [next(results) for _ in range(3)] == [0, 10, 20]
    with pytest.raises(OSError, match='no more'):
        next(results)
