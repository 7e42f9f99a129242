# Copyright (c) mvp_mm authors. All rights reserved.
"""Compiled kernels are loaded on the processor that they were built for, and nowhere else."""
from __future__ import annotations

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


def test_a_system_without_such_a_list_has_a_folder_too(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernel, '_CPU_INFO', tmp_path / 'missing')
    assert cpu_kernel._build_folder().parent.name == '_build'
