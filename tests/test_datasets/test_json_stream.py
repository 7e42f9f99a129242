# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest

from mvp_mm.datasets.indexing import json_stream
from mvp_mm.datasets.indexing.json_stream import JsonStream
from tests.test_datasets.index_content import write


def stream(path):
    return [(key, record) for key, record, _, _ in JsonStream(path).records(['images'])]


@pytest.mark.parametrize('text, message', [
    ('', 'the file ends early'), ('[]', 'top level'), ('{"images": [{}', 'the file ends early'),
    ('{"images": [{"a": 1]}', 'is not valid JSON: byte 12'), ('{"images": [1 2]}', 'expected , or'),
    ('{"images": []} x', 'data after the end'), ('{"other": []}', 'no list of images'),
    ('{"images": {}}', 'no list of images'), ('{1: []}', 'expected a key'),
    ('{"images": [{}], "images": []}', "the key 'images' is there twice"),
    ('{"images": [{"a": "\udcff"}]}', 'is not valid JSON'),
])
def test_broken_json_is_named(tmp_path, text, message):
    path = tmp_path / 'ann.json'
    path.write_text(text, encoding='utf-8', errors='surrogateescape')
    with pytest.raises(ValueError, match=message) as error:
        stream(path)
    assert 'ann.json' in str(error.value)


@pytest.mark.parametrize('window', [1, 2, 3, 7, 1000])
def test_a_window_of_any_size_gives_the_same_records(tmp_path, monkeypatch, window):
    monkeypatch.setattr(json_stream, '_WINDOW', window)
    content = dict(a=-12.5e3, images=[dict(x=[1, dict(y='}],"')]), 123456, 'z'], b='', c=None)
    path = write(tmp_path / 'ann.json', content)
    assert [record for _, record in stream(path)] == content['images']
