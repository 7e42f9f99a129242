# Copyright (c) mvp_mm authors. All rights reserved.
"""Forked workers: order, errors at their place, and processes that never stay behind."""
from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mvp_mm.utils.processes import FORKS, can_fork, map_in_processes

pytestmark = pytest.mark.skipif(not FORKS, reason='no fork on this system')


def run(work, items, workers=2, **options):
    return map_in_processes(work, items, workers, lambda: None, **options)


def test_results_come_in_the_order_of_the_items_whoever_is_slow():
    def work(item):
        time.sleep(0.2 if item == 0 else 0)
        yield from (10 * item, 10 * item + 1)

    assert list(run(work, range(5))) == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]


def test_workers_are_other_processes_with_the_memory_of_this_one():
    known = {'a': object()}    # cannot be pickled into equality
    pids = list(run(lambda item: [(os.getpid(), item in known)], 'aaaaaa'))
    assert all(seen for _, seen in pids)
    assert os.getpid() not in {pid for pid, _ in pids}


def test_an_error_comes_behind_the_results_before_it_with_its_traceback():
    def work(item):
        yield item
        if item == 2:
            raise KeyError('no such thing')
        yield -item

    results = run(work, range(5))
    assert [next(results) for _ in range(5)] == [0, 0, 1, -1, 2]
    with pytest.raises(KeyError, match='no such thing') as caught:
        next(results)
    assert 'in work' in str(caught.value.__cause__)


class Stubborn(Exception):
    def __init__(self, number, word):
        super().__init__(f'{number} {word}')


def test_an_error_that_cannot_be_pickled_says_the_same():
    def work(item):
        raise Stubborn(3, 'apples')
        yield

    with pytest.raises(RuntimeError, match='Stubborn: 3 apples'):
        list(run(work, [1]))


def test_a_result_that_cannot_be_pickled_is_refused():
    with pytest.raises(TypeError, match='must be picklable'):
        list(run(lambda item: [lambda: item], [1]))


@pytest.mark.parametrize('end, how', [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), 'was killed by SIGKILL'),
    (lambda: os._exit(7), 'ended with 7')], ids=['killed', 'left'])
def test_a_lost_worker_is_named_with_its_item_in_one_line(end, how):
    def work(item):
        if item == 3:
            end()
        yield item

    results = run(work, range(6), describe=lambda item: f'picture {item}')
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ChildProcessError, match=rf'^Worker process \d+ {how} at picture 3') as lost:
        next(results)
    assert '\n' not in str(lost.value)


def test_what_was_taken_before_items_fail_is_given():
    def items():
        yield from range(3)
        raise OSError('no more')

    results = run(lambda item: [item], items())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match='no more'):
        next(results)


def test_items_are_not_taken_far_ahead():
    taken = []
    results = run(lambda item: [item], (taken.append(k) or k for k in range(100)))
    for _ in range(3):
        next(results)
    assert len(taken) <= 3 + 2 * 2
    results.close()


def test_closing_ends_workers_in_the_middle_of_work():
    results = run(lambda item: time.sleep(item) or [item], [0, 60, 60])
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []


def test_workers_leave_an_interrupt_to_their_parent():
    ignored, = run(lambda item: [signal.getsignal(signal.SIGINT) is signal.SIG_IGN], [1], 1)
    assert ignored


_PARENT = '''
import os, signal, time
from mvp_mm.utils.processes import map_in_processes
results = map_in_processes(lambda item: [os.getpid()], range(9), 2, lambda: None)
print(*{next(results) for _ in range(4)}, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
'''


def test_workers_end_when_their_parent_is_killed():
    parent = subprocess.run([sys.executable, '-c', _PARENT], capture_output=True, text=True)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    deadline = time.monotonic() + 60
    while any(map(is_running, parent.stdout.split())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in 'ZX'    # ended, and not yet fetched by whoever inherited it


def test_neither_threads_nor_workers_fork_of_their_own_accord():
    found = []
    thread = threading.Thread(target=lambda: found.append(can_fork()))
    thread.start()
    thread.join()
    assert found == [False]
    assert list(run(lambda item: [can_fork()], [1], 1)) == [False]
    assert can_fork()
