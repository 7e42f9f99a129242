# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes image-caption pairs in miniature, and the captions of several VLMs."""
from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from mvp_mm.datasets.captions.sources import manifest_path
from mvp_mm.rehearsal.scenes import (
    box_records,
    draw_scene,
    image_record,
    write_json,
    write_lines,
    write_picture,
)


def write_cc3m(root: Path) -> None:
    """Write LLaVA's list of pairs."""
    entries = []
    for k in range(4):
        name = f'GCC_train_{2582585 + k:09d}'
        scene = draw_scene(500 + k)
        write_picture(root / f'images/{name}.jpg', scene)
        entries.append(dict(id=name, image=f'{name}.jpg', conversations=[
            {'from': 'human', 'value': 'Give a brief description of the image.\n<image>'},
            {'from': 'gpt', 'value': scene.caption}]))
    write_json(root / 'chat.json', entries)


def write_tars(root: Path) -> None:
    """Write two shards as img2dataset does; one sample failed and has no image."""
    root.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        with tarfile.open(root / f'{shard:05d}.tar', 'w') as tar:
            for k in range(3):
                key, scene = f'{shard:05d}{k:04d}', draw_scene(520 + 3 * shard + k)
                stream = io.BytesIO()
                Image.fromarray(scene.pixels).save(stream, 'JPEG')
                if (shard, k) != (1, 2):
                    _add(tar, f'{key}.jpg', stream.getvalue())
                _add(tar, f'{key}.txt', scene.caption.encode())
                _add(tar, f'{key}.json', json.dumps(dict(key=key, status='success')).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_store(path: Path, names: list[str]) -> None:
    """Write captions of four VLMs by image."""
    captioners = ['vila-3b', 'vila-13b', 'internvl2-8b', 'internvl2-26b']
    captions = [dict(captioner=captioner, caption=f'A person walks with {k + 2} dogs through a '
                     'green park.') for k, captioner in enumerate(captioners)]
    write_json(manifest_path(path), dict(captioners=captioners))
    write_lines(path, (dict(image=name, captions=captions) for name in names))


def write_own_labels(root: Path) -> None:
    """Write labels of one's own: COCO JSON of two splits and their images."""
    for split, numbers in (('train', range(700, 704)), ('val', range(704, 706))):
        scenes = [draw_scene(number) for number in numbers]
        for scene in scenes:
            write_picture(root / f'images/{scene.number}.jpg', scene)
        write_json(root / f'{split}.json', dict(
            images=[image_record(scene, f'{scene.number}.jpg') for scene in scenes],
            annotations=[one for scene in scenes for one in box_records(scene, [1, 2])],
            categories=[dict(id=1, name='bolt'), dict(id=2, name='nut')]))
