# Copyright (c) mvp_mm authors. All rights reserved.
"""A folder with every benchmark's data in miniature and a tiny model with seeded weights."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, save_tokenizer
from tests.test_datasets.miniature import write_all

ALL = ROOT / 'configs/mvplm/eval/all.py'
# It answers fast, and the words it writes are few.
_MODEL = """
_base_ = '{root}/configs/mvplm/tiny/stage2.py'
model = dict(
    max_response_tokens=8, pixel_decoder=dict(num_points=2),
    perception=dict(decoder=dict(num_layers=1, num_points=2)))
"""


def enter(root: Path, patch: pytest.MonkeyPatch) -> Config:
    """Fill a folder, go there, and name its model; the weights are ``model.pth``.

    Returns:
        The config of all benchmarks on this model.
    """
    write_all(root / 'data')
    save_tokenizer(root / 'data/synthetic/tokenizer')
    (root / 'model.py').write_text(_MODEL.format(root=ROOT))
    patch.chdir(root)
    # mmengine lays out a config's text four times, which takes longer than all the rest.
    patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    patch.setenv('MVP_MM_MODEL', str(root / 'model.py'))
    cfg = load_config(ALL)
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'model.pth')
    return cfg
