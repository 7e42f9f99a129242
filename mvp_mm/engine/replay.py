# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs the batches of a dump again and says where the first bad value comes from."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mvp_mm.datasets.draws import seed_globals
from mvp_mm.engine.batch_dumps import BatchDump
from mvp_mm.engine.diagnosis import (
    Fault,
    ForwardPass,
    find_fault,
    first_bad,
    is_finite,
    scalar_losses,
    tensors_of,
)


@dataclass
class ReplayedPass:
    """What a forward and backward pass gave when it was run again.

    Attributes:
        then: The pass as it was recorded.
        now: The same with the losses of the replay.
        module: The first module whose output is not finite, with the value; '' if there is none.
        fault: The first fault in images, weights, losses, matching or gradients.
    """

    then: ForwardPass
    now: ForwardPass
    module: str
    fault: Fault

    def __str__(self) -> str:
        names = dict.fromkeys([*self.then.losses, *self.now.losses])
        rows = [f'  {name:<24} then {_number(self.then.losses.get(name)):>12}  now '
                f'{_number(self.now.losses.get(name)):>12}' for name in names]
        return '\n'.join([
            f'Iteration {self.then.iteration + 1}',
            f'  first: {self.fault}',
            f'  first module with a bad output: {self.module or "none"}',
            f'  images: {self.fault.images}', *rows])


def _number(value: Tensor | None) -> str:
    return '-' if value is None else f'{value.item():.6g}'


@contextmanager
def _bad_outputs(model: nn.Module) -> Iterator[list[str]]:
    """Collect the modules whose outputs are not finite, in the order in which they finish."""
    found: list[str] = []

    def note(name: str):
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            for _, value in tensors_of(output):
                if not is_finite(value):
                    found.append(f'{name} ({type(module).__name__}): {first_bad(value)}')
                    break
        return hook

    handles = [module.register_forward_hook(note(name))
               for name, module in model.named_modules() if name]
    yield found
    for handle in handles:
        handle.remove()


def replay(model: nn.Module, wrapper: OptimWrapper, dump: BatchDump) -> list[ReplayedPass]:
    """Run the passes of a dump with the random numbers that they had; no step is taken.

    In one process the losses are divided by the targets of the dump alone, so they may differ
    from those of a run of several ranks by a factor.

    Args:
        model: The model, with weights near those of the dump's iteration.
        wrapper: Gives the precision.
        dump: The passes.
    """
    model.train()
    found = []
    for one in dump.passes:
        model.zero_grad()
        now = ForwardPass(one.iteration, one.batch)
        seed_globals(dump.seed, dump.rank, one.iteration)
        with _bad_outputs(model) as modules, wrapper.optim_context(model):
            data = model.data_preprocessor(one.batch, True)
            losses = model(**data, mode='loss')
        now.losses = scalar_losses(losses)
        total, _ = model.parse_losses(losses)
        total.backward()
        found.append(ReplayedPass(one, now, modules[0] if modules else '',
                                  find_fault(model, [now])))
    return found
