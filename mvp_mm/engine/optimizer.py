# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parameters decay, and how fast each part learns."""
from __future__ import annotations

from collections.abc import Collection, Mapping

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mvp_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_SETTINGS = ('lr_mult', 'decay_mult', 'decay_all')


def decays(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay pulls a parameter to zero: matrices and kernels only.

    Norms, biases, scales, embeddings and learned queries stay where the data puts them.

    Args:
        module: The module that holds the parameter.
        name: Its name there.
        parameter: The parameter.
    """
    return (parameter.ndim > 1 and name.endswith('weight')
            and not isinstance(module, nn.Embedding))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoNormBiasDecayConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer of few parameter groups: by weight decay and by learning rate.

    mmengine's default constructor makes one group of everything, and one group per parameter
    where ``paramwise_cfg`` is given, so that a fused optimizer has nothing to fuse. This one
    makes a group per combination of learning rate and weight decay. ``paramwise_cfg`` may hold:

    - ``lr_mult``: factors of the learning rate by part of the model, such as
      ``{'perception': 2.5, 'llm.lm': 0.5}``; of the prefixes that fit a parameter's name the
      longest counts.
    - ``decay_mult``: factors of the weight decay, in the same way.
    - ``decay_all``: whether norms, biases, embeddings and learned queries decay too.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for the parameters that train.

        Raises:
            ValueError: If a setting is unknown, or names a part without trainable parameters.
        """
        settings = dict(self.paramwise_cfg or {})
        unknown = sorted(set(settings) - set(_SETTINGS))
        if unknown:
            raise ValueError(
                f'paramwise_cfg.{unknown[0]}: NoNormBiasDecayConstructor knows '
                f'{", ".join(_SETTINGS)}; for others use DefaultOptimWrapperConstructor')
        if settings.get('lr_mult') and self.base_lr is None:
            raise ValueError('paramwise_cfg.lr_mult multiplies optimizer.lr, which is not given')
        module = getattr(model, 'module', model)
        found = _trainable(module)
        for key in ('lr_mult', 'decay_mult'):
            _check_factors(key, settings.get(key, {}), [name for name, _, _ in found])
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter, is_matrix in found:
            decay = is_matrix or settings.get('decay_all', False)
            factors = (_factor(settings.get('lr_mult', {}), name),
                       _factor(settings.get('decay_mult', {}), name) if decay else 0.0)
            groups.setdefault(factors, []).append(parameter)
        optimizer = dict(self.optimizer_cfg, params=[
            self._group(parameters, *factors) for factors, parameters in groups.items()])
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg},
            default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))

    def _group(self, parameters: list[nn.Parameter], lr: float, decay: float) -> dict:
        """A parameter group; what is the optimizer's own setting is left to it."""
        group = dict(params=parameters)
        if lr != 1:
            group['lr'] = self.base_lr * lr
        if decay != 1:
            group['weight_decay'] = (self.base_wd or 0.0) * decay
        return group


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter, bool]]:
    """Name, parameter and whether it is a matrix, of each that trains; matrices come first."""
    found: dict[int, tuple[str, nn.Parameter, bool]] = {}
    for prefix, child in model.named_modules():
        for name, parameter in child.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in found:
                full = f'{prefix}.{name}'.lstrip('.')
                found[id(parameter)] = full, parameter, decays(child, name, parameter)
    return sorted(found.values(), key=lambda item: not item[2])


def _fits(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f'{prefix}.')


def _factor(factors: Mapping[str, float], name: str) -> float:
    """The factor of the longest prefix that fits a name; 1 where none does."""
    fitting = [prefix for prefix in factors if _fits(prefix, name)]
    return float(factors[max(fitting, key=len)]) if fitting else 1.0


def _check_factors(key: str, factors: Mapping[str, float], names: Collection[str]) -> None:
    for prefix, factor in factors.items():
        if not any(_fits(prefix, name) for name in names):
            parts = sorted({name.split('.')[0] for name in names})
            raise ValueError(f'paramwise_cfg.{key}: {prefix!r} has no trainable parameter; the '
                             f'parts that train are {parts}')
        if not isinstance(factor, (int, float)) or not 0 <= factor < float('inf'):
            raise ValueError(f'paramwise_cfg.{key}[{prefix!r}] must be a number from 0 on, got '
                             f'{factor!r}')
