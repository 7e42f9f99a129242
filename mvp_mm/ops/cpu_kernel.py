# Copyright (c) mvp_mm authors. All rights reserved.
"""The compiled CPU kernels: deformable attention, segment pairs, division of pixels.

Built once by ``python -m mvp_mm.ops.cpu_kernel`` (part of the set-up script) into the folder
``_build`` beside this file, one library for all.
"""
from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import threading
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from mmengine.logging import MMLogger
from torch import Tensor
from torch.autograd.function import once_differentiable

_FOLDER = Path(__file__).parent
_CPU_INFO = Path('/proc/cpuinfo')
_SOURCES = sorted((_FOLDER / 'csrc').glob('*.cpp'))
_HEADERS = sorted((_FOLDER / 'csrc').glob('*.h'))
_NAME = 'mvp_mm_cpu_kernels'
_LOADING = threading.Lock()


def _instructions() -> str:
    """Name what this processor can do: the kernels are compiled for it (``-march=native``)."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:    # not Linux
        return f'{platform.machine()} {platform.processor()}'
    # "flags" on x86, "Features" on ARM; the same for every core.
    flags = next((line.partition(':')[2] for line in lines
                  if line.startswith(('flags', 'Features'))), '')
    return ' '.join([platform.machine(), *sorted(flags.split())])


def _build_folder() -> Path:
    # A library built against another torch or for another processor may crash, one of other
    # sources lacks functions or computes something else: each has its own folder.
    text = b''.join(path.read_bytes() for path in _SOURCES + _HEADERS) + _instructions().encode()
    digest = hashlib.sha256(text).hexdigest()[:12]
    return _FOLDER / '_build' / f'torch-{torch.__version__}-{digest}'


def build() -> Path:
    """Compile the kernels.

    Returns:
        The compiled library.

    Raises:
        RuntimeError: If there is no C++ compiler or compilation fails.
    """
    from torch.utils.cpp_extension import load
    if shutil.which('c++') is None and shutil.which('g++') is None:
        raise RuntimeError('No C++ compiler (g++) found: cannot build the CPU kernels')
    folder = _build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    load(_NAME, [str(path) for path in _SOURCES], build_directory=str(folder),
         extra_cflags=['-O3', '-march=native', '-ffast-math', '-fno-finite-math-only'],
         with_cuda=False)
    return folder / f'{_NAME}.so'


@cache
def load_kernel() -> ModuleType | None:
    """Load the compiled module; None (said once in the log) where it was not built.

    Threads that come while the first one loads it wait: Python would give them the module before
    its functions are in it.
    """
    with _LOADING:
        return _load()


@cache
def _load() -> ModuleType | None:
    library = _build_folder() / f'{_NAME}.so'
    if not library.is_file():
        MMLogger.get_current_instance().warning(
            'The CPU kernels are not built from their present sources for this processor; using '
            'the slower torch and numpy versions. Build them with: python -m mvp_mm.ops.cpu_kernel')
        return None
    spec = importlib.util.spec_from_file_location(_NAME, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class DeformableAttentionCPU(torch.autograd.Function):
    """Calls the attention kernel, differentiably; float32 only."""

    @staticmethod
    def forward(ctx, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                weights: Tensor) -> Tensor:
        """Run the kernel and keep its inputs."""
        inputs = [x.contiguous() for x in (value, shapes, starts, locations, weights)]
        ctx.save_for_backward(*inputs)
        return load_kernel().deform_attn_forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of values, locations and weights."""
        value, locations, weights = load_kernel().deform_attn_backward(
            grad.contiguous(), *ctx.saved_tensors)
        return value, None, None, locations, weights


if __name__ == '__main__':
    print(f'built {build()}')
