# Copyright (c) mvp_mm authors. All rights reserved.
"""Maps items in forked processes, which share this one's memory, in the items' order."""
from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, TypeVar

FORKS = 'fork' in multiprocessing.get_all_start_methods()

Item = TypeVar('Item')
Result = TypeVar('Result')


def can_fork() -> bool:
    """Whether this process may have workers of its own.

    On Linux, in the main thread alone: other threads are a server's, and what one of them locks
    stays locked in a forked process.
    """
    return (sys.platform == 'linux'
            and threading.current_thread() is threading.main_thread()
            and not multiprocessing.current_process().daemon)


def map_in_processes(work: Callable[[Item], Iterable[Result]], items: Iterable[Item], workers: int,
                     begin: Callable[[], Any], describe: Callable[[Item], str] = str
                     ) -> Iterator[Result]:
    """Map items to results in forked processes and give these in the items' order.

    Processes end with the iterator, and with this process. Ctrl-C reaches this process alone.

    Args:
        work: Gives the results of an item, in a process that sees all that this one sees at the
            start. Items and results are pickled.
        items: Taken one by one; should that fail, what was taken before is given first.
        workers: Processes, each of which works on one item at a time. Results are held for
            twice as many items at most.
        begin: What each process does first.
        describe: Names an item in errors.

    Yields:
        The results of the first item, of the second, and so on.

    Raises:
        ChildProcessError: If a process is killed; names it and its item.
        Exception: Whatever ``work`` raises, behind the results that it gave before.
    """
    pool: list[_Worker] = []
    try:
        for _ in range(workers):
            pool.append(_Worker(work, begin, pool))
        yield from _Dispatch(pool, items, describe).results()
    finally:
        for worker in pool:
            worker.end()


class _Outcome(NamedTuple):
    """What became of an item: its results, and the error behind them with its traceback."""

    results: list[Any]
    error: Exception | None
    told: str = ''


class _Dispatch(Generic[Item]):
    """Gives items to idle workers and puts their outcomes in order."""

    def __init__(self, pool: Sequence[_Worker], items: Iterable[Item],
                 describe: Callable[[Item], str]) -> None:
        self._items = iter(items)
        self._describe = describe
        self._idle = list(pool)
        self._busy: dict[Connection, tuple[_Worker, int, Item]] = {}
        self._outcomes: dict[int, _Outcome] = {}
        self._taken, self._most_held = 0, 2 * len(pool)
        self._ended = False
        self._failure: Exception | None = None

    def results(self) -> Iterator[Any]:
        due = 0
        while True:
            self._send(due)
            if due in self._outcomes:
                outcome = self._outcomes.pop(due)
                due += 1
                # Before the caller gets busy with these: nobody waits for it.
                self._send(due)
                yield from outcome.results
                if outcome.error is not None:
                    raise outcome.error from (outcome.told and RuntimeError(outcome.told) or None)
            elif self._busy:
                self._receive()
            elif self._failure is not None:
                raise self._failure
            else:
                return

    def _send(self, due: int) -> None:
        while self._idle and not self._ended and self._taken < due + self._most_held:
            try:
                item = next(self._items)
            except StopIteration:
                self._ended = True
                return
            except Exception as error:
                self._failure, self._ended = error, True
                return
            worker = self._idle.pop()
            self._busy[worker.pipe] = worker, self._taken, item
            self._taken += 1
            # Of a worker that has died, waiting tells.
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.pipe.send_bytes(pickle.dumps(item))

    def _receive(self) -> None:
        ready = set(wait(list(self._busy)))
        for pipe in [pipe for pipe in self._busy if pipe in ready]:
            worker, number, item = self._busy.pop(pipe)
            try:
                outcome = pickle.loads(pipe.recv_bytes())
                self._idle.append(worker)
            except (EOFError, ConnectionResetError):
                outcome = _Outcome([], worker.loss(self._describe(item)))
            self._outcomes[number] = outcome
            self._ended = self._ended or outcome.error is not None


class _Worker:
    """A process that works on one item at a time."""

    def __init__(self, work: Callable[[Any], Iterable[Any]], begin: Callable[[], Any],
                 others: Sequence[_Worker]) -> None:
        context = multiprocessing.get_context('fork')
        self.pipe, far_end = context.Pipe()
        # A fork holds all that is open: unless it lets go, no process sees the end of another.
        foreign = [self.pipe, *(other.pipe for other in others)]
        self._process = context.Process(
            target=_serve, args=(far_end, foreign, work, begin), daemon=True)
        self._process.start()
        far_end.close()

    def loss(self, item: str) -> ChildProcessError:
        """Tell how the process was lost at its item."""
        self._process.join()
        code = self._process.exitcode or 0
        how = f'was killed by {signal.Signals(-code).name}' if code < 0 else f'ended with {code}'
        return ChildProcessError(
            f'Worker process {self._process.pid} {how} at {item}; if memory ran out, take fewer '
            'workers or smaller batches')

    def end(self) -> None:
        """End the process, whatever it does."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, foreign: Sequence[Connection], work: Callable[[Any], Iterable[Any]],
           begin: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for end in foreign:
        end.close()
    # The collector would write to every object that is shared, and so copy its page.
    gc.freeze()
    begin()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):    # the parent is gone
        while True:
            item = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(_outcome(work, item))


def _outcome(work: Callable[[Any], Iterable[Any]], item: Any) -> bytes:
    """Work on an item; the pickled outcome."""
    results: list[Any] = []
    error, told = None, ''
    try:
        for result in work(item):
            results.append(result)
    except Exception as raised:
        error, told = _that_travels(raised), traceback.format_exc()
    try:
        return pickle.dumps(_Outcome(results, error, told), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as raised:
        error = TypeError(f'What worker processes give must be picklable: {raised}')
        return pickle.dumps(_Outcome([], error, traceback.format_exc()))


def _that_travels(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f'{type(error).__name__}: {error}')
