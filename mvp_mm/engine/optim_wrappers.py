# Copyright (c) mvp_mm authors. All rights reserved.
"""Optimizer steps in mixed precision that are taken only where everything is finite."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mvp_mm.registry import OPTIM_WRAPPERS

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16, None: None}
_STATE = 'guard'


def _stop(norm: float, loss_finite: bool) -> None:
    """What is done about a step that is not finite where nobody else decides."""
    raise FloatingPointError(
        f'The {"gradient norm" if loss_finite else "loss"} is not finite (gradient norm {norm}); '
        'FiniteStepHook would say where it began')


@OPTIM_WRAPPERS.register_module(name=['FiniteOptimWrapper', 'OptimWrapper'])
class FiniteOptimWrapper(OptimWrapper):
    """Takes an optimizer step only if losses and gradient norm are finite on every rank.

    The checks stay on the device and are read together with the gradient norm, once per step. It
    takes the place of mmengine's ``OptimWrapper`` in configs of this project.

    Args:
        optimizer: The optimizer.
        accumulative_counts: Forward passes per step.
        clip_grad: Arguments of :func:`torch.nn.utils.clip_grad_norm_`, such as
            ``dict(max_norm=1.0)``; or of ``clip_grad_value_`` with ``type='value'``. None does not
            clip; the norm is computed and logged all the same.

    Attributes:
        on_skip: Called with the gradient norm and whether the losses are finite, on all ranks,
            where a step is not taken; it may raise, which ends the run.
        alarm: Called once per step; True where this rank has seen a fault that losses may not
            show.
        skipped: Steps not taken since the run began.
        skipped_in_a_row: Steps not taken since the last one that was.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1,
                 clip_grad: dict | None = None) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad)
        self.on_skip: Callable[[float, bool], None] = _stop
        self.alarm: Callable[[], bool] = bool
        self.skipped = 0
        self.skipped_in_a_row = 0
        self._losses: list[Tensor] = []

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None,
                      zero_kwargs: dict | None = None) -> None:
        """Run the backward pass and, with the last pass of a step, take the step."""
        self._losses.append(loss.detach())
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: Any) -> None:
        """Check, clip and step; or skip the step."""
        parameters = [p for group in self.optimizer.param_groups for p in group['params']
                      if p.grad is not None]
        norm = self._norm(parameters)
        finite, loss_finite, value = self._verdict(norm)
        if not finite:
            self._skip(value, loss_finite)
            return
        self.skipped_in_a_row = 0
        self.message_hub.update_scalar('train/grad_norm', value)
        self._clip(parameters, norm)
        self.optimizer.step(**kwargs)

    def _norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Norm () of all gradients, on their device."""
        kind = (self.clip_grad_kwargs or {}).get('norm_type', 2.0)
        return get_total_norm([p.grad for p in parameters], kind)

    def _verdict(self, norm: Tensor) -> tuple[bool, bool, float]:
        """Whether all is finite, whether the losses are, and the norm; the same on all ranks."""
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        losses = torch.stack([loss.to(norm.device, torch.float32) for loss in self._losses]
                             or [norm.new_zeros(())])
        self._losses.clear()
        broken = ~losses.isfinite().all()
        if self.alarm():
            broken = torch.ones_like(broken)
        faults = torch.stack([broken, ~norm.isfinite()]).float()
        if is_distributed():
            all_reduce(faults, 'max')
        loss_fault, norm_fault, value = torch.cat([faults, norm.float()[None]]).tolist()
        return not (loss_fault or norm_fault), not loss_fault, value

    def _clip(self, parameters: list[nn.Parameter], norm: Tensor) -> None:
        if not self.clip_grad_kwargs:
            return
        if self.grad_name == 'grad_norm':
            clip_grads_with_norm_(parameters, self.clip_grad_kwargs['max_norm'], norm)
        else:
            self.clip_func(parameters, **self.clip_grad_kwargs)

    def _skip(self, norm: float, loss_finite: bool) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.on_skip(norm, loss_finite)

    def state_dict(self) -> dict:
        """The optimizer's state and the numbers of skipped steps."""
        return {**super().state_dict(), _STATE: self._guard_state()}

    def load_state_dict(self, state_dict: dict) -> None:
        """See :meth:`state_dict`; a state of mmengine's wrappers is taken too."""
        state = dict(state_dict)
        guard = state.pop(_STATE, None)
        if guard is not None:
            self._load_guard_state(guard)
        super().load_state_dict(state)

    def _guard_state(self) -> dict[str, float]:
        return dict(skipped=self.skipped, skipped_in_a_row=self.skipped_in_a_row)

    def _load_guard_state(self, state: dict[str, float]) -> None:
        self.skipped = state['skipped']
        self.skipped_in_a_row = state['skipped_in_a_row']


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(FiniteOptimWrapper):
    """Computes losses under autocast, on any device; weights and updates stay float32.

    bfloat16 has the range of float32, so no loss is scaled. float16 has not: the loss is scaled
    by a factor that halves with every overflow of the gradients, on all ranks alike, and doubles
    after ``growth_interval`` steps without one. A step that overflows is not taken; it counts as
    skipped only where the losses themselves are not finite or the factor cannot get smaller.

    Args:
        dtype: ``'bfloat16'``, ``'float16'``, or None for float32 throughout.
        loss_scale: First factor; for float16 alone.
        growth_interval: Steps after which the factor doubles.
        **kwargs: Arguments of :class:`FiniteOptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is another one, or ``loss_scale`` is below 1.
    """

    def __init__(self, dtype: str | None = 'bfloat16', loss_scale: float = 2.0**16,
                 growth_interval: int = 2000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dtype not in DTYPES:
            raise ValueError(f"AutocastOptimWrapper.dtype must be 'bfloat16', 'float16' or None, "
                             f'got {dtype!r}')
        if not loss_scale >= 1:
            raise ValueError(f'AutocastOptimWrapper.loss_scale must be at least 1, '
                             f'got {loss_scale!r}')
        self.dtype = dtype
        self.loss_scale = float(loss_scale) if dtype == 'float16' else 1.0
        self.growth_interval = growth_interval
        self._since_overflow = 0

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no exchange of gradients in passes that only accumulate."""
        device = next(model.parameters()).device.type
        dtype = DTYPES[self.dtype]
        with super().optim_context(model), torch.autocast(device, dtype, enabled=dtype is not None):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward pass of the scaled loss."""
        super().backward(loss * self.loss_scale if self.dtype == 'float16' else loss, **kwargs)

    def _norm(self, parameters: list[nn.Parameter]) -> Tensor:
        if self.dtype == 'float16' and parameters:
            torch._foreach_mul_([p.grad for p in parameters], 1 / self.loss_scale)
        return super()._norm(parameters)

    def step(self, **kwargs: Any) -> None:
        """Step as :class:`FiniteOptimWrapper`; let the factor of the loss grow."""
        skipped, before = self.skipped, self.loss_scale
        super().step(**kwargs)
        if self.dtype != 'float16' or self.skipped > skipped or self.loss_scale < before:
            return
        self._since_overflow += 1
        if self._since_overflow == self.growth_interval:
            self.loss_scale, self._since_overflow = self.loss_scale * 2, 0

    def _skip(self, norm: float, loss_finite: bool) -> None:
        if self.dtype != 'float16':
            super()._skip(norm, loss_finite)
            return
        lowest = self.loss_scale <= 1
        self.loss_scale = max(self.loss_scale / 2, 1.0)
        self._since_overflow = 0
        if lowest or not loss_finite:
            super()._skip(norm, loss_finite)

    def _guard_state(self) -> dict[str, float]:
        state = super()._guard_state()
        if self.dtype == 'float16':
            state.update(loss_scale=self.loss_scale, since_overflow=self._since_overflow)
        return state

    def _load_guard_state(self, state: dict[str, float]) -> None:
        super()._load_guard_state(state)
        if self.dtype == 'float16' and 'loss_scale' in state:
            self.loss_scale = state['loss_scale']
            self._since_overflow = state['since_overflow']
