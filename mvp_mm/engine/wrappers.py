# Copyright (c) mvp_mm authors. All rights reserved.
"""Data parallelism (DDP) and the process group, on GPUs or on the CPU."""
from __future__ import annotations

import os
from datetime import timedelta

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import distributed, nn

from mvp_mm.models.losses import read_scalars
from mvp_mm.registry import MODEL_WRAPPERS
from mvp_mm.utils.cores import usable_cores, wanted_threads


@MODEL_WRAPPERS.register_module()
class MVPDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper, usable on the CPU as well.

    mmengine's Runner always passes ``device_ids=[LOCAL_RANK]``, which torch refuses for a module
    on the CPU. In a config the type needs its scope: ``type='mvp_mm.MVPDistributedDataParallel'``.

    Args:
        module: The model to wrap.
        device_ids: The GPU of this process; left out for a CPU module.
        **kwargs: Arguments of :class:`mmengine.model.MMDistributedDataParallel`.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs) -> None:
        on_cpu = next(module.parameters()).device.type == 'cpu'
        super().__init__(module, device_ids=None if on_cpu else device_ids, **kwargs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, float]:
        """Take a training step; returns the values to log, read from the device at once."""
        return read_scalars(super().train_step(data, optim_wrapper))


def init_cpu_process_group(launcher: str, timeout: float = 1800) -> None:
    """Join a gloo process group and share the cores between the processes of this node.

    mmengine's own start-up selects a GPU, which fails without one; its Runner leaves a process
    group that already exists as it is.

    Args:
        launcher: Must be 'pytorch' (torchrun).
        timeout: Seconds that ranks wait for each other.
    """
    if launcher != 'pytorch':
        raise ValueError(
            f"--launcher {launcher} needs CUDA; on the CPU use --launcher pytorch (torchrun)")
    distributed.init_process_group(backend='gloo', timeout=timedelta(seconds=timeout))
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', distributed.get_world_size()))
    # torchrun sets OMP_NUM_THREADS=1 where nothing is set: another number is the user's.
    wanted = wanted_threads()
    torch.set_num_threads(wanted if wanted not in (None, 1) else
                          max(1, usable_cores() // processes))
