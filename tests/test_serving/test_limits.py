# Copyright (c) mvp_mm authors. All rights reserved.
"""Limits of size, number, rate and time; probes and metrics."""
from __future__ import annotations

import base64
import threading
import time

import pytest

from mvp_mm.serving.limits import Limits
from tests.test_serving.fakes import image_bytes


def ask(client, image=None, **fields):
    image = image_bytes() if image is None else image
    fields = fields or dict(text='it')
    return client.post('/predict', json=dict(image=base64.b64encode(image).decode(), **fields))


def in_background(function):
    """Run a request in a thread; returns the thread and the list its answer will be in."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    return thread, answers


def metric(client, name):
    for line in client.get('/metrics').text.splitlines():
        if line.startswith(name + ' '):
            return float(line.rpartition(' ')[2])
    raise AssertionError(name)


@pytest.mark.parametrize('limits, said', [
    (dict(max_batch=0), 'max_batch must be a whole number of at least 1'),
    (dict(max_batch=1.5), 'max_batch'), (dict(max_batch=True), 'max_batch'),
    (dict(queue_seconds=float('nan')), 'queue_seconds'),
    (dict(max_bach=3), "did you mean 'max_batch'"),
])
def test_a_limit_that_is_none_is_refused(limits, said):
    with pytest.raises(ValueError, match=said):
        Limits.of(**limits)


def test_a_limit_of_none_is_the_default():
    assert Limits.of(max_batch=None) == Limits()


def test_a_large_body_is_refused_by_its_announced_length(client_of, model):
    response = ask(client_of(max_request_bytes=2000), b'x' * 4000)
    assert response.status_code == 413 and not model.batches


def test_a_large_body_without_a_length_is_refused_as_it_comes(client_of, model):
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(1)
            yield b'x' * 1000

    response = client_of(max_request_bytes=5000).post(
        '/predict', content=chunks(), headers={'content-type': 'application/json'})
    assert response.status_code == 413 and not model.batches


def test_an_image_of_too_many_pixels_is_not_decoded(client_of, model):
    # 400 megapixels in some kilobytes.
    bomb = image_bytes(size=(20_000, 20_000), kind='PNG', compress_level=9)
    response = ask(client_of(), bomb)
    assert response.status_code == 413 and not model.batches


def test_a_full_queue_refuses_with_a_time_to_come_back(client_of, model):
    client = client_of(max_queue=1)
    model.go_on.clear()
    thread, answers = in_background(lambda: ask(client))
    assert model.opened.wait(10)
    response = ask(client)
    assert response.status_code == 503 and int(response.headers['Retry-After']) >= 1
    assert client.get('/ready').status_code == 503
    assert client.get('/health').status_code == 200
    model.go_on.set()
    thread.join(10)
    assert answers[0].status_code == 200
    assert client.get('/ready').json() == dict(status='ready')


def test_all_bodies_together_are_limited(client_of, model):
    client = client_of(max_queued_bytes=15_000)
    model.go_on.clear()
    large = image_bytes(size=(60, 60), kind='BMP')       # 10 kB, 14 kB in base64
    thread, answers = in_background(lambda: ask(client, large))
    assert model.opened.wait(10)
    refused = ask(client, large)
    model.go_on.set()
    thread.join(10)
    assert (answers[0].status_code, refused.status_code) == (200, 503)
    assert 'Retry-After' in refused.headers
    assert metric(client, 'mvp_mm_queued_bytes') == 0
    assert ask(client, large).status_code == 200


def test_a_client_that_asks_too_often_waits(client_of):
    client = client_of(requests_per_minute=3)
    responses = [ask(client) for _ in range(4)]
    assert [r.status_code for r in responses] == [200, 200, 200, 429]
    assert 1 <= int(responses[-1].headers['Retry-After']) <= 20
    assert client.get('/health').status_code == 200


def test_the_rate_recovers_and_counts_networks():
    from mvp_mm.serving.errors import ServingError
    from mvp_mm.serving.rate import RateLimiter

    now = [0.]
    rate = RateLimiter(60, lambda: now[0])
    for number in range(60):
        rate.take(f'2001:db8::{number}')
    with pytest.raises(ServingError):
        rate.take('2001:db8::ffff')
    rate.take('2001:db8:0:1::1')
    rate.take('10.0.0.1')
    now[0] = 1.01
    rate.take('2001:db8::1')
    with pytest.raises(ServingError):
        rate.take('2001:db8::1')


def test_the_memory_of_the_rate_is_bounded():
    from mvp_mm.serving.rate import RateLimiter

    rate = RateLimiter(1)
    for number in range(12_000):
        rate.take(f'client {number}')
    assert len(rate._buckets) == 10_000


def test_a_request_that_waits_too_long_is_let_go(client_of, model):
    client = client_of(queue_seconds=2, max_batch=1)
    model.go_on.clear()
    thread, answers = in_background(lambda: ask(client))
    assert model.opened.wait(10)
    late = ask(client)
    assert late.status_code == 503 and 'Retry-After' in late.headers
    model.go_on.set()
    thread.join(10)
    # The one that the model had begun with is answered.
    assert answers[0].status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(serve):
    import socket

    address, _ = serve(upload_seconds=0.3)
    host, port = address.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b'POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n'
                     b'Content-Type: application/json\r\n\r\n{')
        assert slow.recv(1000).startswith(b'HTTP/1.1 408')


def test_a_client_that_hangs_up_is_not_asked_for(serve, model):
    import httpx

    address, server = serve(max_batch=1)
    model.go_on.clear()
    body = dict(image=base64.b64encode(image_bytes()).decode(), text='it')
    thread, _ = in_background(lambda: httpx.post(f'{address}/predict', json=body, timeout=20))
    assert model.opened.wait(10)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f'{address}/predict', json=body, timeout=httpx.Timeout(10, read=2))
    service = server.config.app.state.service
    until = time.monotonic() + 10
    while service._in_flight > 1 and time.monotonic() < until:
        time.sleep(0.02)
    model.go_on.set()
    thread.join(10)
    assert model.batches == [1]


def test_metrics_count_answers_refusals_and_batches(client_of):
    client = client_of()
    ask(client, words=['cat'])
    ask(client, words=['dog'])
    ask(client, words=[])
    assert metric(client, 'mvp_mm_requests_total{door="api",status="200"}') == 2
    assert metric(client, 'mvp_mm_requests_total{door="api",status="422"}') == 1
    assert metric(client, 'mvp_mm_refusals_total{reason="question"}') == 1
    assert metric(client, 'mvp_mm_batch_size_sum') == 2
    assert metric(client, 'mvp_mm_kept_image_hits_total') == 1
    assert metric(client, 'mvp_mm_in_flight') == 0


def test_a_server_answers_to_its_own_names_alone(client_of):
    from mvp_mm.serving.launch import allowed_hosts

    client = client_of(hosts=allowed_hosts('127.0.0.1', ('mvp.example',)))
    answers = {host: client.get('/health', headers=dict(host=host)).status_code for host in (
        '127.0.0.1:7860', 'localhost', '[::1]:80', 'mvp.example', 'evil.example', '')}
    assert answers == {'127.0.0.1:7860': 200, 'localhost': 200, '[::1]:80': 200,
                       'mvp.example': 200, 'evil.example': 421, '': 421}


def test_pages_of_other_sites_cannot_ask(client_of, model):
    response = client_of().post('/predict', content=b'', headers={'sec-fetch-site': 'cross-site'})
    assert response.status_code == 403
