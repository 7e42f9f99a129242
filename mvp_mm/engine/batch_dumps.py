# Copyright (c) mvp_mm authors. All rights reserved.
"""Files with the batches of one optimizer step, to run it again."""
from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.dist import get_dist_info
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.engine.diagnosis import ForwardPass
from mvp_mm.structures import Instruction, PerceptionDataSample, Segment, SegmentKind

# What a dump may hold beside tensors, numbers, texts, lists and dicts; nothing else is read.
_CLASSES = (
    DrawnIndex, PerceptionDataSample, InstanceData, PixelData, Instruction, Segment, SegmentKind,
    BitmapMasks, PolygonMasks, bytes, np.ndarray, np.dtype, np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *{type(np.dtype(kind)) for kind in ('bool', 'uint8', 'int32', 'int64', 'float32', 'float64')})


@dataclasses.dataclass
class BatchDump:
    """The forward passes of a step on one rank.

    Attributes:
        message: What was wrong.
        seed: Seed of the run.
        rank: Rank that ran the passes.
        world_size: Number of ranks.
        passes: The passes.
    """

    message: str
    seed: int
    rank: int
    world_size: int
    passes: list[ForwardPass]


def write_dump(folder: Path, runner: Runner, passes: Sequence[ForwardPass], message: str) -> Path:
    """Write passes to a file of a folder.

    Args:
        folder: Where to write.
        runner: Tells seed and iteration.
        passes: The passes.
        message: What was wrong.

    Returns:
        The file.
    """
    rank, world_size = get_dist_info()
    path = folder / f'iter_{runner.iter + 1}_rank{rank}.pth'
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(
        message=message, seed=runner.seed, rank=rank, world_size=world_size,
        passes=[dict(iteration=one.iteration, batch=_without_tasks(one.batch),
                     losses={name: value.cpu() for name, value in one.losses.items()},
                     bad_costs=one.bad_costs) for one in passes]), path)
    return path


def _without_tasks(value: Any) -> Any:
    """A batch without the task objects, which training does not use; their names stay."""
    if isinstance(value, BaseDataElement):
        value = value.new()
        # mmengine keeps a property's name and its field's.
        for name in ('task_object', '_task_object'):
            value.pop(name, None)
        return value
    if isinstance(value, dict):
        return {key: _without_tasks(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tasks(child) for child in value]
    return value


def read_dump(path: str | Path) -> BatchDump:
    """Read a file of :func:`write_dump`; nothing in it is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or holds objects that are not read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Dump not found: {path}')
    try:
        with torch.serialization.safe_globals(list(_CLASSES)):
            found = torch.load(path, map_location='cpu', weights_only=True)
        passes = [ForwardPass(**one) for one in found.pop('passes')]
        return BatchDump(passes=passes, **found)
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, KeyError,
            AttributeError) as error:
        lines = str(error).strip().split('\n')
        reason = next((line.strip() for line in lines if 'Unsupported' in line), lines[0])
        raise ValueError(f'{path} is no dump of a training step: {reason}') from error
