# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts the processor cores that this process may keep busy, and has idle threads sleep."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CONTROL_GROUPS = Path('/sys/fs/cgroup')
_MEMBERSHIP = Path('/proc/self/cgroup')


def sleep_while_waiting() -> None:
    """Have threads of OpenMP, which torch uses, sleep while they wait, unless the user says else.

    By default they spin, on the cores that other work needs, that of the threads they wait for
    included: two threads on a busy machine took twenty times the processor time of one. OpenMP
    reads the variable when torch is loaded; later it changes nothing.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def wanted_threads() -> int | None:
    """Read the number of threads that the user asks for; None where ``OMP_NUM_THREADS`` says none.

    Of a list ("4,2": nested levels) the first number counts, as for OpenMP itself.
    """
    first = os.environ.get('OMP_NUM_THREADS', '').partition(',')[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


def usable_cores() -> int:
    """Count the cores that this process may use: its affinity, and the quota of its containers.

    A container with two cores of a machine with 64 sees all 64, and 64 threads that share two
    cores wait for each other.
    """
    cores = len(os.sched_getaffinity(0))
    for quota in _quotas():
        cores = min(cores, max(1, round(quota)))
    return cores


def _quotas() -> Iterator[float]:
    """Quotas in cores, of this process's control group and those around it."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:    # no Linux, or no /proc
        return
    for line in lines:
        _, kinds, place = line.split(':', 2)
        if kinds and 'cpu' not in kinds.split(','):
            continue
        root = _CONTROL_GROUPS / 'cpu' if kinds else _CONTROL_GROUPS
        folder = root / place.strip('/')
        for group in (folder, *folder.parents):
            quota = _quota(group)
            if quota is not None:
                yield quota
            if group == root:
                break


def _quota(group: Path) -> float | None:
    """Quota of a control group, version 2 or 1, in cores; None where there is none."""
    try:
        if (group / 'cpu.max').is_file():
            limit, period = (group / 'cpu.max').read_text().split()
        else:
            limit, period = ((group / f'cpu.cfs_{name}_us').read_text().strip()
                             for name in ('quota', 'period'))
    except (OSError, ValueError):
        return None
    return int(limit) / int(period) if limit.isdigit() and int(period) > 0 else None
