# Copyright (c) mvp_mm authors. All rights reserved.
"""Processes for tests that start from a clean interpreter, whatever ran in this one.

A fork inherits what earlier tests left behind; torch refuses a backward pass in one whose parent
has used autograd's thread pool. A fork server is started afresh and imports the package once.
"""
from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle

START_METHOD = 'forkserver'
_CONTEXT = multiprocessing.get_context(START_METHOD)
# The toys register themselves; a config names them.
_TOYS = 'tests.test_engine.toys'
_CONTEXT.set_forkserver_preload(['mvp_mm.engine', _TOYS])


def start_clean(function: Callable[[], Any]) -> BaseProcess:
    """Call a function, which may be a closure, in a process of its own."""
    process = _CONTEXT.Process(target=_call, args=(cloudpickle.dumps(function),))
    process.start()
    return process


def _call(pickled: bytes) -> None:
    importlib.import_module(_TOYS)  # of a server that others have started, too
    cloudpickle.loads(pickled)()
