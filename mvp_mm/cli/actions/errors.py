# Copyright (c) mvp_mm authors. All rights reserved.
"""What training and testing report in one line."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mvp_mm.cli.command import FAILED, Failure, reported
from mvp_mm.datasets.tolerant import TooManyBadSamples
from mvp_mm.engine.runner import DatasetError
from mvp_mm.utils.atomic import WriteError
from mvp_mm.utils.checkpoint_io import CheckpointError


@contextmanager
def run_errors_reported() -> Iterator[None]:
    """End the command with a message at what the files of a run are to blame for."""
    with reported(CheckpointError, DatasetError), reported(WriteError, status=FAILED):
        try:
            yield
        except TooManyBadSamples as error:
            # A worker's error holds its traceback, and at the end its own text.
            message = str(error).rsplit('TooManyBadSamples: ')[-1].strip()
            raise Failure(message, FAILED) from error
