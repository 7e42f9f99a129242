# Copyright (c) mvp_mm authors. All rights reserved.
"""Puts figures of one GPU beside earlier ones and beside other systems."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Kinds of CUDA kernels by what their names hold; the first that fits counts.
KINDS = {
    'deformable attention, backward': ('ms_deformable_col2im', ),
    'deformable attention, forward': ('ms_deformable_im2col', ),
    'attention': ('sdpa', ),
    'matrix products': ('nvjet', 'gemm'),
    'optimizer': ('multi_tensor_apply', ),
}
OTHER_KERNELS = 'norms, copies, elementwise'
# Ranges that the profiler marks on the device, whose kernels are listed as well: in files of before
# they were left out.
_RANGES = ('Optimizer.', )
_BESIDE_SECTIONS = ('surroundings', 'built')


def sections_of(run: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Take what a run measured.

    Args:
        run: The content of a file of ``benchmark_gpu.py``.

    Returns:
        Results by section, colons in names replaced, and reasons of sections that have none.
    """
    measured: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for title, section in run.items():
        if title in _BESIDE_SECTIONS:
            continue
        name = title.replace(':', ',')
        reason = section.get('error') or section.get('skipped')
        if reason:
            missing[name] = reason
            continue
        found = {key: value for key, value in section.items() if key != 'section_seconds'}
        measured[name] = summed_by_kind(found) if 'longest' in found else found
    return measured, missing


def summed_by_kind(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Add up a profile's longest kernels by kind.

    Args:
        profile: ``device_ms``, ``kernels`` and ``longest``: milliseconds and calls by kernel.

    Returns:
        Milliseconds of the device without ranges that hold other kernels, those of each kind
        among the longest kernels, and ``rest``.
    """
    kinds: dict[str, float] = {}
    device = profile['device_ms']
    for kernel, (ms, _) in profile['longest'].items():
        if kernel.startswith(_RANGES):
            device -= ms
            continue
        kind = next((name for name, marks in KINDS.items()
                     if any(mark in kernel for mark in marks)), OTHER_KERNELS)
        kinds[kind] = kinds.get(kind, 0.0) + ms
    return dict(device_ms=round(device, 2), kernels=profile['kernels'],
                kinds={kind: round(ms, 2) for kind, ms in kinds.items()},
                rest=round(device - sum(kinds.values()), 2), longest=profile['longest'])


def against_peer(steps: Mapping[str, Mapping[str, float]],
                 peer: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Compare steps with those of another system, by kind of batch.

    Args:
        steps: Ours, each with ``ms`` and ``gib``.
        peer: Theirs; kinds that ours lack are left out.

    Returns:
        How many times ``faster``, and our ``memory`` as a share of theirs.
    """
    return {kind: dict(faster=round(theirs['ms'] / steps[kind]['ms'], 2),
                       memory=round(steps[kind]['gib'] / theirs['gib'], 2))
            for kind, theirs in peer.items() if kind in steps}
