# Copyright (c) mvp_mm authors. All rights reserved.
"""Collects figures of one GPU, section by section, whatever fails."""
from __future__ import annotations

import gc
import json
import statistics
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


@dataclass
class Figures:
    """Results by section, written after each.

    Attributes:
        path: The JSON file.
        deadline: When no section may start any more, by :func:`time.monotonic`.
        results: What has been found.
    """

    path: Path
    deadline: float
    results: dict[str, Any] = field(default_factory=dict)

    def section(self, name: str, run: Callable[[], dict[str, Any]], least: float = 5.0) -> None:
        """Run a section; a failure is noted and loses no other section.

        Args:
            name: Its name in the results.
            run: Computes it.
            least: Seconds that must be left for it to start.
        """
        start = time.monotonic()
        if self.deadline - start < least:
            found: dict[str, Any] = dict(skipped=f'{self.deadline - start:.0f} s left')
        else:
            try:
                found = run()
            except Exception as error:  # noqa: BLE001  whatever fails, the rest goes on
                text = ''.join(traceback.format_exception(error, limit=-6))
                found = dict(error=f'{type(error).__name__}: {error}'[:500], trace=text[-3000:])
                _free_memory()
        found['section_seconds'] = round(time.monotonic() - start, 2)
        self.results[name] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.results, indent=1))
        shown = {k: v for k, v in found.items() if k != 'trace'}
        print(f'{name}: {json.dumps(shown)}', flush=True)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    """Wait for what a device has been asked to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def median_ms(run: Callable[[], Any], device: torch.device, times: int, warm: int = 2) -> float:
    """Median milliseconds of a call that is waited for."""
    seconds = []
    for number in range(warm + times):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        if number >= warm:
            seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 3)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference, relative to the norm of the second."""
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp(min=1e-12)).item()


@contextmanager
def counted_waits() -> Iterator[Counter]:
    """Count where the host waits for CUDA, by file and line."""
    found: Counter = Counter()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            yield found
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for item in caught:
        if 'synchroniz' in str(item.message).lower():
            found[f'{Path(item.filename).name}:{item.lineno}'] += 1


def profile_of(run: Callable[[], Any], device: torch.device, most: int = 20) -> dict[str, Any]:
    """Profile one call: the device's time, launches, and what takes most of it.

    Args:
        run: The call, which has been made before.
        device: Its device.
        most: Kernels that are listed.
    """
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == 'cuda')
    with profile(activities=kinds) as found:
        run()
        wait(device)
    rows = [row for row in found.key_averages() if row.self_device_time_total > 0
            and row.device_type.name == 'CUDA']
    rows.sort(key=lambda row: -row.self_device_time_total)
    return dict(device_ms=round(sum(row.self_device_time_total for row in rows) / 1000, 2),
                kernels=sum(row.count for row in rows), longest={
                    row.key[:90]: [round(row.self_device_time_total / 1000, 2), row.count]
                    for row in rows[:most]})
