# Copyright (c) mvp_mm authors. All rights reserved.
"""The tutorial notebook runs from top to bottom, and its answers show themselves."""
from __future__ import annotations

import base64
import io

import nbclient
import nbformat
import pytest
from PIL import Image

from mvp_mm.apis import MVP
from mvp_mm.utils.named_weights import find_weights
from tests.helpers import ROOT
from tests.test_apis.conftest import checkpoint  # noqa: F401  fixture

NOTEBOOK = ROOT / 'demo/mvp_mm_tutorial.ipynb'
MODEL = "MODEL = 'tiny'"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_runs_and_shows_pictures(notebook, checkpoint, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
    named, = (cell for cell in notebook.cells if MODEL in cell.source)
    try:
        find_weights('tiny')
    except FileNotFoundError:    # its weights are not published: random ones
        MVP(checkpoint, 'cpu').save_pretrained(tmp_path / 'model')
        named.source = "MODEL = 'model'"
    nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3',
                            resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == 'code'
             for output in cell.outputs if 'image/png' in output.get('data', ())]
    assert len(shown) == 3
    for output in shown:
        assert '<table>' in output.data['text/html']
        picture = Image.open(io.BytesIO(base64.b64decode(output.data['image/png'])))
        assert min(picture.size) >= 112
    assert (tmp_path / 'answers.json').is_file()
    assert len(list((tmp_path / 'answers').iterdir())) == 8


def test_it_is_kept_without_results(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert code and not [cell for cell in code if cell.outputs or cell.execution_count]
