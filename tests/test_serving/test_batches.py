# Copyright (c) mvp_mm authors. All rights reserved.
"""Many requests at once: batches, nothing lost or swapped, memory, shutdown."""
from __future__ import annotations

import asyncio
import base64
import gc
import threading
import time

import httpx
import psutil
import pytest

from tests.test_serving.fakes import FakeModel, image_bytes


def body(number, **question):
    """A request whose answer tells its number."""
    image = image_bytes((number % 250 + 1, number // 250 + 1, 7), (64 + number % 5, 48))
    return dict(image=base64.b64encode(image).decode(), **(question or dict(words=['cat'])))


def ask_all(address, bodies, retry=False):
    """Send all requests at once; returns the responses in order."""
    async def one(client, content):
        while True:
            response = await client.post(f'{address}/predict', json=content)
            if not (retry and response.status_code == 503):
                return response
            await asyncio.sleep(float(response.headers['Retry-After']) / 20)

    async def run():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            return await asyncio.gather(*(one(client, content) for content in bodies))

    return asyncio.run(run())


def check(responses, texts=None):
    """Each answer belongs to its request."""
    assert [r.status_code for r in responses] == [200] * len(responses)
    for number, response in enumerate(responses):
        answer = response.json()
        assert answer['objects'][0]['box'][:2] == [number % 250 + 1, number // 250 + 1]
        assert answer['image_size'] == [48, 64 + number % 5]
        if texts:
            assert answer['objects'][0]['label'] == texts[number]
    assert len({r.json()['id'] for r in responses}) == len(responses)


def ask_while_held(address, server, model, bodies):
    """Send all requests, and let the model go on when all of them are in flight."""
    model.go_on.clear()
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(ask_all(address, bodies)))
    thread.start()
    service = server.config.app.state.service
    while service._in_flight < len(bodies):
        assert thread.is_alive()
        time.sleep(0.01)
    yield service
    model.go_on.set()
    thread.join(60)
    yield answers


def test_200_requests_at_once_are_answered_in_batches(serve, model):
    address, server = serve(max_batch=16)
    *_, answers = ask_while_held(address, server, model, [body(n) for n in range(200)])
    check(answers)
    assert sum(model.batches) == 200
    assert max(model.batches) <= 16 and len(model.batches) < 100


def test_200_different_questions_at_once_get_their_own_answers(serve, model):
    address, _ = serve(requests_per_minute=0)
    texts = [f'sentence {number % 23}' for number in range(200)]
    check(ask_all(address, [body(n, text=text) for n, text in enumerate(texts)]), texts)
    assert sum(model.batches) == 200


def test_clients_that_come_back_when_told_lose_nothing(serve, model):
    model.seconds = 0.005
    address, _ = serve(requests_per_minute=0, max_queue=16)
    check(ask_all(address, [body(number) for number in range(200)], retry=True))


def test_memory_stays_flat(serve):
    model = FakeModel(seconds=0.005)
    address, _ = serve(served=model, requests_per_minute=0)
    images = [base64.b64encode(image_bytes((n + 1, 5, 5), (1000, 700), 'JPEG')).decode()
              for n in range(10)]
    process, sizes = psutil.Process(), []
    for _ in range(4):
        # 2 MB each as pixels, of which none may stay; half come in batches, half alone.
        ask_all(address, [dict(image=images[n % 10], text=f'sentence {n if n % 2 else 0}')
                          for n in range(200)])
        gc.collect()
        sizes.append(process.memory_info().rss / 2**20)
    assert sizes[-1] - max(sizes[:2]) < 40, sizes


def test_a_request_that_breaks_a_batch_breaks_alone(serve, model):
    address, _ = serve(batch_wait_ms=300, max_batch=8)
    poison = dict(image=base64.b64encode(image_bytes((0, 0, 0))).decode(), words=['cat'])
    responses = ask_all(address, [body(0), body(1), poison, body(3)])
    assert [r.status_code for r in responses] == [200, 200, 500, 200]
    for number in (0, 1, 3):
        assert responses[number].json()['objects'][0]['box'][0] == number + 1


def test_questions_about_one_picture_encode_it_once(serve, model):
    address, _ = serve()
    responses = ask_all(address, [body(5, text=f'sentence {n}') for n in range(20)])
    assert [r.json()['objects'][0]['label'] for r in responses] == [
        f'sentence {n}' for n in range(20)]
    assert model.encoded == 1


def test_no_more_pictures_are_kept_than_said(serve, model):
    address, server = serve(kept_images=2)
    for number in range(5):
        ask_all(address, [body(number, text='it')])
    assert len(server.config.app.state.service._kept) == 2


def test_one_request_does_not_wait_for_a_batch(serve, model):
    address, _ = serve(batch_wait_ms=5000)
    response, = ask_all(address, [body(1)])
    assert response.json()['seconds']['queue'] < 2.5


def test_a_shutdown_answers_what_it_took(serve, model):
    address, server = serve(max_batch=2)
    asking = ask_while_held(address, server, model, [body(n) for n in range(20)])
    next(asking)
    server.handle_exit(15, None)
    answers = next(asking)
    server.thread.join(30)
    assert not server.thread.is_alive()
    check(answers)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f'{address}/health')


def test_what_comes_after_the_signal_is_refused(client_of):
    client = client_of()
    client.app.state.service.draining = True
    response = client.post('/predict', json=body(1))
    assert response.status_code == 503 and 'Retry-After' in response.headers
    assert client.get('/ready').json() == dict(status='draining')
