# Copyright (c) mvp_mm authors. All rights reserved.
"""Parameters, gradients and optimizer state shared out among the processes."""
from __future__ import annotations

from collections.abc import Callable, Iterator
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
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.registry import RUNNERS


def shard(model: nn.Module) -> ShardedState:
    """Share a model out among all processes, in place (torch's ``fully_shard``).

    The parts that ``model.shard_units()`` lists are put together one at a time, when they run;
    the rest of the model once a step. Names and values of the parameters stay, and
    ``state_dict`` and ``load_state_dict`` speak of whole tensors, in all processes together.

    Args:
        model (nn.Module): The model, the same in every process.

    Returns:
        ShardedState: What does the same for the state of an optimizer.
    """
    state = ShardedState(_widen_scalars(model))
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.get_world_size(), ))
    units = model.shard_units() if hasattr(model, 'shard_units') else []
    for unit in units:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # torch writes an attribute on a hook, which a method cannot take.
    model.register_state_dict_post_hook(partial(state.gather_weights))
    model.register_load_state_dict_pre_hook(partial(state.scatter_weights))
    return state


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
    """Puts weights and moments together for a checkpoint, and shares those of one out.

    Args:
        scalars (set[str]): Names of the parameters that are scalars outside.
    """

    def __init__(self, scalars: set[str]) -> None:
        self.scalars = scalars

    def gather_weights(self, module: nn.Module, state: dict, prefix: str, _: Any) -> None:
        """Hook of ``state_dict``."""
        for key, value in state.items():
            state[key] = self._whole(value, key.removeprefix(prefix))

    def scatter_weights(self, module: nn.Module, state: dict, prefix: str, *_: Any) -> None:
        """Hook of ``load_state_dict``."""
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if prefix + name in state:
                state[prefix + name] = self._share(state[prefix + name], parameter, name)

    def attach(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Make an optimizer save and load whole tensors."""
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
            lambda _, state: convert(state, lambda v, p, name: self._whole(v, name)))
        optimizer.register_load_state_dict_pre_hook(
            lambda _, state: convert(state, self._share))

    def _whole(self, value: Any, name: str) -> Any:
        """A whole tensor on the CPU, in the first process; elsewhere its shape."""
        if not isinstance(value, DTensor):
            return value
        whole = value.full_tensor().detach()
        whole = whole.view(()) if name in self.scalars else whole
        return whole.cpu() if is_main_process() else torch.empty_like(whole, device='meta')

    def _share(self, value: Tensor, like: Tensor, name: str) -> Tensor:
        """This process' share of a whole tensor, laid out like its parameter."""
        if not isinstance(like, DTensor) or isinstance(value, DTensor):
            return value
        value = value.view(1) if name in self.scalars else value
        # Every process has read the whole: nothing needs to be sent.
        return distribute_tensor(
            value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class _WholeModelInVal(Hook):
    """Keeps the model together while it is validated.

    Processes write answers of different lengths and have different numbers of images; each must
    be able to run the model when it wants.
    """

    def before_val(self, runner: Runner) -> None:
        for part in _sharded_parts(runner.model):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def after_val(self, runner: Runner) -> None:
        for part in _sharded_parts(runner.model):
            part.set_reshard_after_forward(part is not runner.model, recurse=False)
            part.reshard()


def _sharded_parts(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))


@RUNNERS.register_module()
class ShardedRunner(PerceptionRunner):
    """Trains a model that is shared out among the processes, for GPUs that cannot hold it all.

    Each process keeps its share of parameters, gradients and optimizer state. Gradients are
    those of data parallelism, and are clipped by the norm of the whole. A checkpoint is a
    normal one: written by the first process, read by any runner. Testing needs no sharding and
    uses mmengine's own runner. One process trains as it does there.
    """

    @property
    def sharded(self) -> bool:
        """bool: Whether there are processes to share with."""
        return self.distributed

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Shard the model; ``model_wrapper_cfg`` is for runs that do not."""
        if not self.sharded:
            return super().wrap_model(model_wrapper_cfg, model)
        model = model.to(get_device())
        # Initial values are drawn for whole tensors, and are the first process' everywhere.
        if hasattr(model, 'init_weights'):
            model.init_weights()
        for value in model.state_dict().values():
            broadcast(value)
        self.sharded_state = shard(model)
        return model

    def _init_model_weights(self) -> None:
        if not self.sharded:
            super()._init_model_weights()

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the wrapper; its optimizer then saves and loads whole tensors."""
        built = super().build_optim_wrapper(optim_wrapper)
        if self.sharded and not isinstance(optim_wrapper, OptimWrapper):
            self.sharded_state.attach(built.optimizer, self.model)
        return built

    def register_hooks(self, default_hooks: dict | None = None,
                       custom_hooks: list | None = None) -> None:
        """Register the hooks, and one that puts the model together for validation."""
        super().register_hooks(default_hooks, custom_hooks)
        if self.sharded:
            self.register_hook(_WholeModelInVal(), priority='VERY_HIGH')

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, **kwargs: Any) -> None:
        """Write a checkpoint from the first process; the others send their shares."""
        if self.sharded and not is_main_process():
            # In the order in which the first process asks for them.
            self.model.state_dict()
            if save_optimizer:
                self.optim_wrapper.state_dict()
        super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)

    def resume(self, filename: str, resume_optimizer: bool = True,
               resume_param_scheduler: bool = True, map_location: Any = 'default') -> None:
        """Resume; the whole checkpoint is read to the host, where it fits."""
        if self.sharded and map_location == 'default':
            map_location = 'cpu'
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)
