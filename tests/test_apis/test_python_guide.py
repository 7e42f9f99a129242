# Copyright (c) mvp_mm authors. All rights reserved.
"""Every line of the Python guide runs, in its order, and leaves what the guide says."""
from __future__ import annotations

import numpy as np
from PIL import Image

from mvp_mm.apis import MVP, Answer
from tests.helpers import ROOT
from tests.test_docs.pages import blocks


def test_the_guide_runs_from_top_to_bottom(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MVP(checkpoint, 'cpu').save_pretrained('CHECKPOINT')
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    (tmp_path / 'images').mkdir()
    for name in ('IMAGE', 'images/a.png', 'images/b.png'):
        Image.fromarray(pixels).save(name, 'png')
    scope: dict = {}
    code = blocks((ROOT / 'docs/get_started/python.md').read_text(), 'python')
    assert len(code) == 5
    for text in code:
        exec(compile(text, 'python.md', 'exec'), scope)
    assert (tmp_path / 'answer.png').is_file()
    assert len(list((tmp_path / 'answers').iterdir())) == 4
    assert len(scope['answers']) == 2 and isinstance(scope['first'], Answer)
    assert {path.name for path in (tmp_path / 'my_model').iterdir()} == {
        'model.safetensors', 'config.json', 'tokenizer', 'README.md'}
