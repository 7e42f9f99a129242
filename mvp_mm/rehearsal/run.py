# Copyright (c) mvp_mm authors. All rights reserved.
"""Types all commands of a rehearsal and tells what became of them."""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from mvp_mm.rehearsal.step import Outcome, Step, type_step

Tell = Callable[[str], None]
# A phase: commands in processes of their own, and those in this one, side by side.
Phase = tuple[Sequence[Step], Sequence[Step]]


def rehearse(place: Path, phases: Sequence[Phase], tell: Tell = print) -> list[Outcome]:
    """Type the commands of all phases.

    Args:
        place: Folder of :func:`~mvp_mm.rehearsal.place.make_place`.
        phases: From :func:`~mvp_mm.rehearsal.plan.phases`.
        tell: Takes a line per command as it ends.

    Returns:
        What became of each command. One that fails does not stop the others.
    """
    outcomes: list[Outcome] = []

    def type_all(steps: Sequence[Step]) -> None:
        for step in steps:
            outcome = type_step(step, place)
            outcomes.append(outcome)
            tell(line_of(outcome))

    for separate, here in phases:
        beside = threading.Thread(target=type_all, args=(separate, ))
        beside.start()
        type_all(here)
        beside.join()
    return outcomes


def line_of(outcome: Outcome) -> str:
    """Describe an outcome in a line, with more lines where it failed."""
    mark = 'FAILED' if outcome.error else 'ok'
    return f'{outcome.seconds:6.1f} s  {mark:<6}  {outcome.error or outcome.step.command}'


def summary(outcomes: Sequence[Outcome]) -> str:
    """Count the commands and repeat those that failed."""
    failed = [outcome for outcome in outcomes if outcome.error]
    lines = [f'{len(outcomes)} commands, {len(failed)} failed']
    return '\n'.join([*lines, *(f'- {outcome.error}' for outcome in failed)])
