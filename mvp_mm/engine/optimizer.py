# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parameters decay."""
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
class MatrixDecayConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer of two groups, with and without weight decay.

    mmengine's default constructor decays everything, which is the paper's plain setting
    (``optim_wrapper.constructor=DefaultOptimWrapperConstructor``). Its ``paramwise_cfg`` makes a
    group of every parameter, so that a fused optimizer has nothing to fuse.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for the parameters that train."""
        if self.paramwise_cfg:
            raise ValueError('MatrixDecayConstructor has no paramwise_cfg; use '
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
