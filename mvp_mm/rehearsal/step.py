# Copyright (c) mvp_mm authors. All rights reserved.
"""Describes one command of a rehearsal and types it."""
from __future__ import annotations

import contextlib
import io
import os
import runpy
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin

from mvp_mm.rehearsal import sizes

# As it was before any command changed it: one in this process may do so beside another.
_ENVIRONMENT = dict(os.environ)
_TAKES_OPTIONS = {
    'tools/train.py': {**sizes.MODEL_OPTIONS, **sizes.TRAIN_OPTIONS},
    'tools/dist_train.sh': {**sizes.MODEL_OPTIONS, **sizes.TRAIN_OPTIONS},
    'tools/test.py': {**sizes.MODEL_OPTIONS, **sizes.TEST_OPTIONS},
    'tools/dist_test.sh': {**sizes.MODEL_OPTIONS, **sizes.TEST_OPTIONS},
    'tools/model_converters/convert_weights.py': sizes.MODEL_OPTIONS,
    'tools/analysis_tools/browse_dataset.py': {'canvas': sizes.MODEL_OPTIONS['canvas']},
}


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        command: What is typed, without the overlay.
        needs: Files that earlier commands make. Where one is missing the step is not run.
        separate: Run in processes of its own, as a user's shell does; else in this process,
            where its imports are done.
        keeps_sizes: The config is small by itself: only the number of steps is cut.
        sizes: Further options of the overlay, or others in the place of its own.
        environment: Variables that stand before the command.
        after: Called with the folder and the output when the command has ended well; raises where
            the one or the other is not as it should be.
    """

    command: str
    needs: tuple[str, ...] = ()
    separate: bool = False
    keeps_sizes: bool = False
    sizes: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[Path, str], None] | None = None

    @property
    def words(self) -> list[str]:
        """The command with the overlay's options."""
        words = shlex.split(self.command)
        script = next(word for word in words if word.startswith(('tools/', 'demo/')))
        options = dict(_TAKES_OPTIONS.get(script, {}))
        if self.keeps_sizes:
            options = {key: value for key, value in options.items()
                       if key not in sizes.MODEL_OPTIONS}
        options = {key: str(value).replace(' ', '') for key, value in
                   {**options, **self.sizes}.items() if value is not None}
        if not options:
            return words
        if '--cfg-options' not in words:
            words.append('--cfg-options')
        at = words.index('--cfg-options') + 1
        # What the command says itself stands last and wins.
        return [*words[:at], *(f'{key}={value}' for key, value in options.items()), *words[at:]]

    @property
    def configs(self) -> list[str]:
        """Configs that the command names."""
        return [word for word in shlex.split(self.command)
                if word.startswith('configs/') and word.endswith('.py')]


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        step: The step.
        error: Why it failed, with the command; empty if it did not.
        seconds: How long it took.
    """

    step: Step
    error: str
    seconds: float


def type_step(step: Step, place: Path) -> Outcome:
    """Type a command in a folder.

    Args:
        step: What to type.
        place: The folder, with what earlier steps left.

    Returns:
        What became of it. Nothing is raised but an interrupt.
    """
    start = time.monotonic()
    missing = [name for name in step.needs if not (place / name).exists()]
    if missing:
        return Outcome(step, f'{step.command}\n    not run: an earlier command should have made '
                             f'{missing[0]}', 0.0)
    try:
        run = _in_processes if step.separate else _in_this_process
        output = run(step, place)
        if step.after is not None:
            step.after(place, output)
        error = ''
    except Exception as problem:  # any way in which a command can fail
        error = f'{step.command}\n    {problem}'
    return Outcome(step, error, time.monotonic() - start)


def _in_processes(step: Step, place: Path) -> str:
    # One thread per process: two or three of them share the cores.
    environment = {
        **_ENVIRONMENT, 'OMP_NUM_THREADS': '1', **step.environment,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{_ENVIRONMENT.get("PATH", "")}'}
    done = subprocess.run(_interpreter(step.words), cwd=place, env=environment, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f'exit status {done.returncode}\n{_tail(done.stdout + done.stderr)}')
    return done.stdout + done.stderr


def _interpreter(words: list[str]) -> list[str]:
    return [sys.executable, *words[1:]] if words[0] == 'python' else words


def _in_this_process(step: Step, place: Path) -> str:
    """Run a script as ``__main__``."""
    script, *arguments = (word for word in step.words if word != 'python')
    output = io.StringIO()
    forget_runs()
    with _typed(place, [script, *arguments], step.environment, output):
        try:
            runpy.run_path(script, run_name='__main__')
        except SystemExit as end:
            if end.code:
                told = output.getvalue() + (f'{end.code}\n' if isinstance(end.code, str) else '')
                status = 1 if isinstance(end.code, str) else end.code
                raise RuntimeError(f'exit status {status}\n{_tail(told)}') from None
        # Whatever ends a command is what the rehearsal is to tell.
        except Exception:
            raise RuntimeError(_tail(output.getvalue() + traceback.format_exc())) from None
        finally:
            forget_runs()
    return output.getvalue()


@contextlib.contextmanager
def _typed(place: Path, argv: list[str], environment: Mapping[str, str],
           output: io.StringIO) -> Iterator[None]:
    """Stand in a folder with another command line, as a new process does."""
    before = Path.cwd()
    os.chdir(place)
    try:
        # mmengine lays out a config's text four times, which takes longer than all the rest.
        with mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)), \
                mock.patch.object(sys, 'argv', argv), mock.patch.dict(os.environ, environment), \
                contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield
    finally:
        os.chdir(before)


def forget_runs() -> None:
    """Let go of the loggers, visualizers and scopes that mmengine keeps for a process."""
    kinds: list[Any] = [ManagerMixin]
    for kind in kinds:
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()
    DefaultScope._instance_dict.clear()


def _tail(text: str, lines: int = 12) -> str:
    """The last lines, and before them the errors that a launcher's report hides."""
    found = text.rstrip().splitlines()
    errors = dict.fromkeys(line for line in found[:-lines] if ': error: ' in line)
    return '\n'.join(f'    {line}' for line in [*errors, *found[-lines:]])
