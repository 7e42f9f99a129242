# Copyright (c) mvp_mm authors. All rights reserved.
"""Compiled kernels are loaded on the processor that they were built for, and nowhere else."""
from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from mvp_mm.ops import cpu_kernel

CORE = 'processor\t: {}\nflags\t\t: {}\n'


@pytest.fixture
def folder_on(tmp_path, monkeypatch):
    """The folder of the kernels on a processor with some instructions."""
    def folder(flags):
        info = tmp_path / 'cpuinfo'
        info.write_text(''.join(CORE.format(core, flags) for core in range(2)))
        monkeypatch.setattr(cpu_kernel, '_CPU_INFO', info)
        return cpu_kernel._build_folder()
    return folder


def test_another_processor_has_another_folder(folder_on):
    assert folder_on('sse avx2 avx512f') != folder_on('sse avx2')


def test_the_order_of_its_instructions_does_not_matter(folder_on):
    assert folder_on('sse avx2') == folder_on('avx2 sse')


def test_threads_wait_for_the_one_that_loads_the_kernels(tmp_path, monkeypatch):
    (tmp_path / 'mvp_mm_cpu_kernels.so').touch()
    started = []

    class Loader:
        def create_module(self, spec):
            return ModuleType(spec.name)

        def exec_module(self, module):
            started.append(module)
            time.sleep(0.2)
            module.forward = len

    monkeypatch.setattr(cpu_kernel, '_build_folder', lambda: tmp_path)
    monkeypatch.setattr(importlib.util, 'spec_from_file_location',
                        lambda name, path: ModuleSpec(name, Loader()))
    clear()
    try:
        with ThreadPoolExecutor(4) as pool:
            loaded = list(pool.map(lambda _: hasattr(cpu_kernel.load_kernel(), 'forward'),
                                   range(4)))
    finally:
        clear()
    assert loaded == [True] * 4 and len(started) == 1


def clear():
    """Forget the kernels that are loaded."""
    cpu_kernel.load_kernel.cache_clear()
    cpu_kernel._load.cache_clear()


def test_a_system_without_such_a_list_has_a_folder_too(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernel, '_CPU_INFO', tmp_path / 'missing')
    assert cpu_kernel._build_folder().parent.name == '_build'
