# Copyright (c) mvp_mm authors. All rights reserved.
"""The compiled CPU kernel of deformable attention.

Built once by ``python -m mvp_mm.ops.cpu_kernel`` (part of the set-up script) into the folder
``_build`` beside this file.
"""
from __future__ import annotations

import importlib.util
import shutil
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from mmengine.logging import MMLogger
from torch import Tensor
from torch.autograd.function import once_differentiable

_FOLDER = Path(__file__).parent
_NAME = 'mvp_mm_deform_attn_cpu'


def _build_folder() -> Path:
    # A kernel built against another torch may crash; each version has its own.
    return _FOLDER / '_build' / f'torch-{torch.__version__}'


def build() -> Path:
    """Compile the kernel.

    Returns:
        The compiled library.

    Raises:
        RuntimeError: If there is no C++ compiler or compilation fails.
    """
    from torch.utils.cpp_extension import load
    if shutil.which('c++') is None and shutil.which('g++') is None:
        raise RuntimeError('No C++ compiler (g++) found: cannot build the CPU attention kernel')
    folder = _build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    load(_NAME, [str(_FOLDER / 'csrc' / 'deform_attn_cpu.cpp')], build_directory=str(folder),
         extra_cflags=['-O3', '-march=native', '-ffast-math', '-fno-finite-math-only'],
         with_cuda=False)
    return folder / f'{_NAME}.so'


@cache
def load_kernel() -> ModuleType | None:
    """The compiled module, or None (said once in the log) where it was not built."""
    library = _build_folder() / f'{_NAME}.so'
    if not library.is_file():
        MMLogger.get_current_instance().warning(
            'The CPU kernel of deformable attention is not built; using the slower torch version. '
            'Build it with: python -m mvp_mm.ops.cpu_kernel')
        return None
    spec = importlib.util.spec_from_file_location(_NAME, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class DeformableAttentionCPU(torch.autograd.Function):
    """Differentiable call of the kernel; float32 only."""

    @staticmethod
    def forward(ctx, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                weights: Tensor) -> Tensor:
        inputs = [x.contiguous() for x in (value, shapes, starts, locations, weights)]
        ctx.save_for_backward(*inputs)
        return load_kernel().forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = load_kernel().backward(
            grad.contiguous(), *ctx.saved_tensors)
        return value, None, None, locations, weights


if __name__ == '__main__':
    print(f'built {build()}')
