# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parameters decay, and in what precision the losses are computed."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mvp_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


def decays(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is to pull a parameter to zero: matrices and kernels only.

    Norms, biases, scales, embeddings and learned queries stay where the data puts them.

    Args:
        module (nn.Module): The module that holds the parameter.
        name (str): Its name there.
        parameter (nn.Parameter): The parameter.
    """
    return (parameter.ndim > 1 and name.endswith('weight')
            and not isinstance(module, nn.Embedding))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoNormBiasDecayConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer of two groups, with and without weight decay.

    mmengine's default constructor decays everything, which is the paper's plain setting
    (``optim_wrapper.constructor=DefaultOptimWrapperConstructor``). Its ``paramwise_cfg`` makes a
    group of every parameter, so that a fused optimizer has nothing to fuse.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for the parameters that train."""
        if self.paramwise_cfg:
            raise ValueError('NoNormBiasDecayConstructor has no paramwise_cfg; use '
                             'DefaultOptimWrapperConstructor')
        module = getattr(model, 'module', model)
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        seen: set[int] = set()
        for child in module.modules():
            for name, parameter in child.named_parameters(recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    groups[decays(child, name, parameter)].append(parameter)
        optimizer = dict(
            self.optimizer_cfg,
            params=[dict(params=groups[True]), dict(params=groups[False], weight_decay=0.0)])
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg},
            default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Computes losses under autocast, on any device; weights and updates stay float32.

    bfloat16 has the range of float32, so no loss is scaled. mmengine's AmpOptimWrapper is for
    float16, and for GPUs alone.

    Args:
        dtype (str, optional): 'bfloat16', or None for float32 throughout.
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, dtype: str | None = 'bfloat16', **kwargs) -> None:
        super().__init__(**kwargs)
        if dtype not in ('bfloat16', None):
            raise ValueError(f"AutocastOptimWrapper.dtype must be 'bfloat16' or None, got "
                             f"{dtype!r}; for float16 use AmpOptimWrapper")
        self.dtype = dtype

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no exchange of gradients in passes that only accumulate."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(
                device, torch.bfloat16, enabled=self.dtype is not None):
            yield
