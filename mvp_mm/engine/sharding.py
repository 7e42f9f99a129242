# Copyright (c) mvp_mm authors. All rights reserved.
"""FSDP2 (``fully_shard``): parameters, gradients and optimizer state are sharded over the ranks."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mvp_mm.engine.optim_wrappers import DTYPES
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.engine.weight_sources import watch_init_files
from mvp_mm.registry import RUNNERS


def shard(model: nn.Module, dtype: torch.dtype | None = None) -> ShardedState:
    """Shard a model over all ranks, in place.

    The parts that ``model.shard_units()`` lists are gathered one at a time, when they run; the
    rest of the model once per step. Names and values of the parameters stay, and ``state_dict``
    and ``load_state_dict`` take and give full tensors, on all ranks together.

    Args:
        model: The model, the same on every rank.
        dtype: Precision in which the listed parts are gathered, that of autocast; their norms
            are gathered in float32. Shards, gradients and updates are float32. None gathers all
            in float32.

    Returns:
        What does the same for the state of an optimizer.
    """
    state = ShardedState(_widen_scalars(model))
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.get_world_size(), ))
    units = model.shard_units() if hasattr(model, 'shard_units') else []
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in units:
        for part in _norms(unit) if dtype else ():
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        fully_shard(unit, mesh=mesh, reshard_after_forward=True,
                    mp_policy=policy if dtype else MixedPrecisionPolicy())
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # torch writes an attribute on a hook, which a method cannot take.
    model.register_state_dict_post_hook(partial(state.gather_weights))
    model.register_load_state_dict_pre_hook(partial(state.scatter_weights))
    return state


def _norms(unit: nn.Module) -> list[nn.Module]:
    """Normalisation layers, which autocast runs in float32."""
    return [part for part in unit.modules()
            if type(part).__name__.endswith('Norm') and any(True for _ in part.parameters())]


def _widen_scalars(model: nn.Module) -> set[str]:
    """Give every scalar parameter one dimension, which torch wants to shard along."""
    names = set()
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                wide = nn.Parameter(parameter.detach().view(1), parameter.requires_grad)
                setattr(module, name, wide)
                names.add(f'{prefix}.{name}'.lstrip('.'))
    return names


class ShardedState:
    """Gathers full tensors when a checkpoint is saved, and shards them when it is loaded.

    Args:
        scalars: Names of the parameters that are scalars outside.
    """

    def __init__(self, scalars: set[str]) -> None:
        self.scalars = scalars

    def gather_weights(self, module: nn.Module, state: dict, prefix: str, _: Any) -> None:
        """Hook of ``state_dict``."""
        for key, value in state.items():
            state[key] = self._full(value, key.removeprefix(prefix))

    def scatter_weights(self, module: nn.Module, state: dict, prefix: str, *_: Any) -> None:
        """Hook of ``load_state_dict``."""
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if prefix + name in state:
                state[prefix + name] = self._shard(state[prefix + name], parameter, name)

    def attach(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Make an optimizer save and load full tensors."""
        names = {id(p): name for name, p in model.named_parameters()}

        def convert(state: dict, function: Callable) -> dict:
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            # The number of steps is everywhere the same.
            moments = {
                index: {key: value if key == 'step' else
                        function(value, parameters[index], names[id(parameters[index])])
                        for key, value in entry.items()}
                for index, entry in state['state'].items()
            }
            return {**state, 'state': moments}

        optimizer.register_state_dict_post_hook(
            lambda _, state: convert(state, lambda v, p, name: self._full(v, name)))
        optimizer.register_load_state_dict_pre_hook(
            lambda _, state: convert(state, self._shard))

    def _full(self, value: Any, name: str) -> Any:
        """The full tensor on the CPU of rank 0; elsewhere its shape."""
        if not isinstance(value, DTensor):
            return value
        full = value.full_tensor().detach()
        full = full.view(()) if name in self.scalars else full
        return full.cpu() if is_main_process() else torch.empty_like(full, device='meta')

    def _shard(self, value: Tensor, like: Tensor, name: str) -> Tensor:
        """The shard of this rank of a full tensor, laid out like its parameter."""
        if not isinstance(like, DTensor) or isinstance(value, DTensor):
            return value
        value = value.view(1) if name in self.scalars else value
        # Every rank has read the full tensor: nothing needs to be sent.
        return distribute_tensor(
            value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class _UnshardForValidation(Hook):
    """Unshards the model for validation: ranks may run different numbers of forward passes.

    They generate responses of different lengths and have different numbers of images. What is
    gathered in lower precision runs under autocast, as in training.

    Args:
        dtype: Precision in which layers are gathered; None for float32.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype
        self._autocast = ExitStack()

    def before_val(self, runner: Runner) -> None:
        for part in _sharded_parts(runner.model):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        if self.dtype is not None:
            device = next(runner.model.parameters()).device.type
            self._autocast.enter_context(torch.autocast(device, self.dtype))

    def after_val(self, runner: Runner) -> None:
        self._autocast.close()
        for part in _sharded_parts(runner.model):
            part.set_reshard_after_forward(part is not runner.model, recurse=False)
            part.reshard()


def _sharded_parts(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))


@RUNNERS.register_module()
class ShardedRunner(PerceptionRunner):
    """Trains with FSDP2, for GPUs that cannot hold model, gradients and optimizer state.

    Each rank keeps its shard of parameters, gradients and optimizer state. Gradients are those
    of DDP, and are clipped by the norm of all shards. Where the optimizer wrapper computes in
    bfloat16 or float16, the layers of the LLM and the encoder are gathered in that precision. A
    checkpoint is a normal one: written by rank 0, read by any runner. Testing needs no sharding
    and uses the plain runner, and so does training in one process.
    """

    @property
    def sharded(self) -> bool:
        """Whether there are ranks to shard over."""
        return self.distributed

    @property
    def _gather_dtype(self) -> torch.dtype | None:
        """The precision of autocast in training."""
        return DTYPES.get((self.cfg.get('optim_wrapper') or {}).get('dtype'))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Shard the model; ``model_wrapper_cfg`` is for runs that do not."""
        if not self.sharded:
            return super().wrap_model(model_wrapper_cfg, model)
        model = model.to(get_device())
        # Initial values are drawn for full tensors, and are those of rank 0 everywhere.
        watch_init_files(model)
        if hasattr(model, 'init_weights'):
            model.init_weights()
        for value in model.state_dict().values():
            broadcast(value)
        self.sharded_state = shard(model, self._gather_dtype)
        return model

    def _init_model_weights(self) -> None:
        if not self.sharded:
            super()._init_model_weights()

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the wrapper; its optimizer then saves and loads full tensors."""
        built = super().build_optim_wrapper(optim_wrapper)
        if self.sharded and not isinstance(optim_wrapper, OptimWrapper):
            self.sharded_state.attach(built.optimizer, self.model)
        return built

    def register_hooks(self, default_hooks: dict | None = None,
                       custom_hooks: list | None = None) -> None:
        """Register the hooks, and one that unshards the model for validation."""
        super().register_hooks(default_hooks, custom_hooks)
        if self.sharded:
            self.register_hook(_UnshardForValidation(self._gather_dtype), priority='VERY_HIGH')

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, **kwargs: Any) -> None:
        """Write a checkpoint on rank 0; the other ranks send their shards."""
        if self.sharded and not is_main_process():
            # In the order in which rank 0 asks for them.
            self.model.state_dict()
            if save_optimizer:
                self.optim_wrapper.state_dict()
        super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
