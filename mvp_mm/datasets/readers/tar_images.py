# Copyright (c) mvp_mm authors. All rights reserved.
"""Image-caption pairs in tar files (WebDataset), with random access through an index.

A sample's files share their name up to its first dot: ``000000012.jpg``, ``000000012.txt``,
``000000012.json``. :func:`write_tar_index` notes once where every image lies and what its caption
is; the dataset reads the index, and an image's bytes come from its tar by one read.
"""
from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.transforms import LoadImage
from mvp_mm.registry import DATASETS, TRANSFORMS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import COUNT, FILE_NAME, TEXT, Field, RecordFormat
from mvp_mm.utils.texts import named

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')


def tar_samples(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a tar file.

    Yields:
        ``key``, and where they are there ``image`` (name, offset and size in bytes) and
        ``caption``, from ``.txt`` or else from ``caption`` in ``.json``.

    Raises:
        ValueError: If the file is no tar or is cut off.
    """
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(path, 'r:') as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                key = str(name.parent / name.name.split('.')[0])
                if sample and sample['key'] != key:
                    yield sample
                    sample = {}
                sample['key'] = key
                if name.suffix.lower() in IMAGE_SUFFIXES:
                    sample['image'] = [member.name, member.offset_data, member.size]
                elif name.suffix == '.txt':
                    sample['caption'] = tar.extractfile(member).read().decode()
                elif name.suffix == '.json':
                    content = json.loads(tar.extractfile(member).read())
                    if not isinstance(content, dict):
                        raise ValueError(f'{member.name} must hold an object, holds '
                                         f'{type(content).__name__}')
                    if isinstance(content.get('caption'), str):
                        sample.setdefault('caption', content['caption'])
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ValueError(f'{path} is not a readable tar of samples: {error}') from error
    if sample:
        yield sample


def write_tar_index(tars: Iterable[Path], out: Path) -> dict[str, int]:
    """Write the index of tar files beside them.

    The index has one JSON object per line: ``tar`` (relative to the index) and ``bytes`` open a
    tar's samples, which are ``image`` (name, offset, size) and ``caption``.

    Args:
        tars: The tar files.
        out: File to write; it appears when it is complete.

    Returns:
        Numbers of ``tars``, ``samples``, and samples left out ``without_image`` or
        ``without_caption``.
    """
    counts = dict(tars=0, samples=0, without_image=0, without_caption=0)
    part = out.with_name(out.name + '.part')
    with open(part, 'w', encoding='utf-8') as file:
        for tar in tars:
            counts['tars'] += 1
            name = tar.resolve().relative_to(out.parent.resolve()).as_posix()
            file.write(json.dumps(dict(tar=name, bytes=tar.stat().st_size)) + '\n')
            for sample in tar_samples(tar):
                caption = ' '.join(sample.get('caption', '').split())
                if 'image' not in sample:
                    counts['without_image'] += 1
                elif not caption:
                    counts['without_caption'] += 1
                else:
                    counts['samples'] += 1
                    file.write(json.dumps(dict(image=sample['image'], caption=caption),
                                          ensure_ascii=False) + '\n')
    part.replace(out)
    return counts


def _is_place(image: Any) -> bool:
    return (isinstance(image, list) and len(image) == 3 and FILE_NAME.accepts(image[0])
            and all(map(COUNT.accepts, image[1:])))


TAR = RecordFormat('line', tar=FILE_NAME, bytes=COUNT)
SAMPLE = RecordFormat('line', caption=TEXT,
                      image=Field(_is_place, '[name, offset, size]', fault='broken line'))


@DATASETS.register_module()
class TarCaptionDataset(PerceptionDataset):
    """Image-caption pairs in tar files; ``ann_file`` is their index.

    Items have ``tar_path``, ``tar_offset`` and ``tar_size`` for :class:`LoadImageFromTar`;
    ``img_path`` is the tar's path and the member's name, for messages.

    Arguments: see :class:`PerceptionDataset`; ``data_prefix['img']`` is the folder that the tar
    files' names are relative to.

    Raises:
        FileNotFoundError: If a tar file is missing.
        ValueError: If a line is broken, or a tar file has another size than when it was indexed.
    """

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        faults = self.faults_of(self.ann_file)
        items: list[dict[str, Any]] = []
        tar: str | None = None
        length = 0
        with open(self.ann_file, 'rb') as file:
            for number, line in enumerate(file, 1):
                where = f'line {number}'
                try:
                    content = json.loads(line)
                except (ValueError, RecursionError) as error:
                    faults('broken line', where, f'is not valid JSON: {error}')
                    continue
                if number == 1 or isinstance(content, dict) and 'tar' in content:
                    tar = self._tar(content, where, faults)
                    length = content['bytes'] if tar else 0
                elif tar is not None and SAMPLE.accepts(content, faults, where=where):
                    name, offset, size = content['image']
                    if offset + size > length:
                        faults('broken line', where, f'has {named(name)} behind the end of {tar}')
                        continue
                    items.append(dict(
                        img_path=f'{tar}/{name}', img_id=f'{Path(tar).stem}/{name}',
                        file_name=name, tar_path=tar, tar_offset=offset, tar_size=size,
                        captions=[content['caption']]))
        faults.count('samples', len(items))
        return items

    def _tar(self, content: dict[str, Any], where: str, faults: Faults) -> str | None:
        """Path of a tar file, None where it is at fault."""
        if not TAR.accepts(content, faults, where=where):
            return None
        path = Path(self.image_path(content['tar']))
        if not path.is_file():
            if not faults.collects:
                raise FileNotFoundError(
                    f'{self.ann_file}: {where} names {path}, which does not exist')
            faults('tar file', where, f'names {path}, which does not exist')
            return None
        size = path.stat().st_size
        if size != content['bytes']:
            faults('tar file', where, f'names {path}, which has {size} bytes, {content["bytes"]} '
                   'when it was indexed: index it again')
            return None
        return str(path)


def read_tar_bytes(item: dict[str, Any]) -> bytes:
    """The bytes of an item's image.

    Raises:
        ValueError: If the tar file ends before them.
    """
    with open(item['tar_path'], 'rb') as file:
        file.seek(item['tar_offset'])
        content = file.read(item['tar_size'])
    if len(content) != item['tar_size']:
        raise ValueError(f'{item["img_path"]}: {item["tar_path"]} ends inside this image')
    return content


@TRANSFORMS.register_module()
class LoadImageFromTar(LoadImage):
    """:class:`LoadImage` for items of :class:`TarCaptionDataset`.

    Items without ``tar_path`` are read from ``img_path``.
    """

    def read_file(self, results: dict[str, Any], name: str) -> bytes:
        """See :meth:`LoadImage.read_file`."""
        if 'tar_path' not in results:
            return super().read_file(results, name)
        return read_tar_bytes(results)
