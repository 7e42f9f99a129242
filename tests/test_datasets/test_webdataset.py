# Copyright (c) mvp_mm authors. All rights reserved.
"""Tar shards mean the same to this project and to the library ``webdataset``."""
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets.readers.tar_images import LoadImageFromTar, read_tar_bytes, write_tar_index
from mvp_mm.registry import DATASETS
from mvp_mm.rehearsal.trees import texts
from tests.test_datasets.miniature import entries, moved, write_tars

webdataset = pytest.importorskip('webdataset', reason='needs the extra "scale"')
IMAGES = ('jpg', 'png')


def theirs(folder: Path) -> list[tuple[str, bytes, str]]:
    """Key, bytes of the image and caption of each sample with an image."""
    names = [str(path) for path in sorted(folder.glob('*.tar'))]
    found = []
    for sample in webdataset.WebDataset(names, shardshuffle=False):
        image = next((sample[kind] for kind in IMAGES if kind in sample), None)
        if image is not None:
            found.append((sample['__key__'], image, sample['txt'].decode()))
    return found


def dataset_of(folder: Path):
    write_tar_index(sorted(folder.glob('*.tar')), folder / 'index.jsonl')
    return DATASETS.build(moved(entries()['cc3m_tars'], folder.parent))


def ours(folder: Path) -> list[tuple[str, bytes, str]]:
    dataset = dataset_of(folder)
    items = [dataset.get_data_info(k) for k in range(len(dataset))]
    return [(item['file_name'].split('.')[0], read_tar_bytes(item),
             item['annotation'].captions[0]) for item in items]


@pytest.mark.parametrize('write', [write_tars, texts.write_tars], ids=['miniature', 'rehearsal'])
def test_webdataset_reads_the_shards_that_this_project_reads(write, tmp_path):
    folder = tmp_path / 'cc3m_tars'
    folder.mkdir()
    write(folder)
    expected = theirs(folder)
    assert expected and ours(folder) == expected


def test_shards_that_webdataset_wrote_are_read(tmp_path):
    folder = tmp_path / 'cc3m_tars'
    folder.mkdir()
    pictures = {}
    with webdataset.ShardWriter(str(folder / '%05d.tar'), maxcount=3, verbose=0) as writer:
        for number in range(7):
            stream = io.BytesIO()
            pixels = np.full((8, 12, 3), 30 * number, np.uint8)
            Image.fromarray(pixels).save(stream, 'PNG')
            key = f'part{number % 2}/sample_{number}'
            pictures[key] = pixels
            writer.write({'__key__': key, 'png': stream.getvalue(), 'txt': f'picture {number}',
                          'json': dict(width=12)})
    assert len(list(folder.glob('*.tar'))) == 3
    assert ours(folder) == theirs(folder)
    dataset, load = dataset_of(folder), LoadImageFromTar()
    for k in range(len(dataset)):
        item = dataset.get_data_info(k)
        image = load(dict(item))['img']
        assert np.array_equal(image, pictures[item['file_name'].removesuffix('.png')])
