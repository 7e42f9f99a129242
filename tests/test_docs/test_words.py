# Copyright (c) mvp_mm authors. All rights reserved.
"""Who searches the pages for the field's terms arrives where they are explained."""
from __future__ import annotations

import re

import pytest

from tests.helpers import ROOT
from tests.test_docs.pages import PAGES, name_of

# Term: the page that explains it, and the source file that implements it and says so.
TERMS = {
    'FSDP': ('docs/how_to/multi_gpu.md', 'mvp_mm/engine/sharding.py'),
    'DDP': ('docs/how_to/multi_gpu.md', 'mvp_mm/engine/wrappers.py'),
    'distributed': ('docs/how_to/multi_gpu.md', 'mvp_mm/engine/wrappers.py'),
    'Slurm': ('docs/how_to/multi_gpu.md', 'tools/slurm_train.sh'),
    'gradient accumulation': ('docs/how_to/out_of_memory.md', 'mvp_mm/engine/batching.py'),
    'gradient checkpointing': ('docs/how_to/out_of_memory.md', 'mvp_mm/models/llms/causal_lm.py'),
    'mixed precision': ('docs/how_to/out_of_memory.md', None),
    'LoRA': ('docs/how_to/out_of_memory.md', 'mvp_mm/models/llms/building.py'),
    'out of memory': ('docs/how_to/out_of_memory.md', 'configs/mvplm/stage2_sharded.py'),
    'fine-tun': ('docs/how_to/own_data.md', 'mvp_mm/cli/train.py'),
    'custom dataset': ('docs/how_to/dataset.md', None),
    'open-vocabulary': ('docs/reference/benchmarks.md', 'configs/_base_/datasets/ade20k.py'),
    'ONNX': ('docs/how_to/onnx.md', 'mvp_mm/export/onnx_export.py'),
    'multi-scale': ('docs/reference/architecture.md', 'mvp_mm/ops/deformable_attention.py'),
    'auxiliary loss': ('docs/reference/architecture.md', 'mvp_mm/models/perception.py'),
}


def says(path, term):
    return re.search(re.escape(term), (ROOT / path).read_text(encoding='utf-8'), re.IGNORECASE)


@pytest.mark.parametrize('term', TERMS)
def test_a_term_leads_to_the_page_that_explains_it(term):
    page, _ = TERMS[term]
    assert says(page, term)
    assert says('docs/index.md', term)


@pytest.mark.parametrize('term', [term for term, (_, source) in TERMS.items() if source])
def test_a_term_leads_to_the_code_that_implements_it(term):
    assert says(TERMS[term][1], term)


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_dataset_is_one_word(page):
    text = page.read_text(encoding='utf-8')
    if page.name == 'style.md':    # its table shows the wrong spelling once
        text = text.replace('| data set | dataset |', '')
    assert not re.findall(r'\bdata[ -]sets?\b', text, re.IGNORECASE)


def test_every_page_is_reached_from_the_index():
    index = (ROOT / 'docs/index.md').read_text(encoding='utf-8')
    pages = {str(path.relative_to(ROOT / 'docs').with_suffix(''))
             for path in (ROOT / 'docs').rglob('*.md')} - {'index'}
    listed = {line for line in index.splitlines() if re.fullmatch(r'[\w/]+', line)}
    assert pages == listed
