# Copyright (c) mvp_mm authors. All rights reserved.
"""Lists the images to caption: those of a folder, or of a dataset of a config."""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mvp_mm.datasets.captions.keys import caption_key
from mvp_mm.engine.config_loading import load_config, load_datasets
from mvp_mm.registry import DATASETS

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif')
# What a dataset needs for training only.
_NOT_NEEDED: dict[str, Any] = dict(tasks=[], pipeline=[], caption_store=None)


class ImageSet:
    """Images to caption, by name.

    Args:
        items: Names, as a store keeps them, with the files.
        where: What errors call the set.

    Raises:
        ValueError: If there is none, a name does not fit in a line of text, or two files would
            have one name.
    """

    def __init__(self, items: Iterable[tuple[str, Path]], where: str) -> None:
        self._paths: dict[str, Path] = {}
        keys: dict[str, str] = {}
        for name, path in items:
            if '\n' in name or not name.isprintable():
                raise ValueError(f'{where}: the file name {name!r} cannot stand in a list')
            known = keys.setdefault(caption_key(name), name)
            if known == name:
                other = self._paths.setdefault(name, path)
                if other != path:
                    raise ValueError(f'{where}: {name} is {other} and {path}')
            elif Path(known).name == Path(name).name:
                raise ValueError(f'{where}: {known} and {name} would be taken for one image')
        if not self._paths:
            raise ValueError(f'{where} holds no images')
        self.names = sorted(self._paths)

    def path(self, name: str) -> Path:
        """File of an image."""
        return self._paths[name]


def images_of_folder(folder: str | Path) -> ImageSet:
    """All images below a folder; names are relative to it.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: See :class:`ImageSet`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'Folder {folder} does not exist')
    found = (Path(parent, file) for parent, _, files in os.walk(folder, followlinks=True)
             for file in files if file.lower().endswith(IMAGE_SUFFIXES))
    return ImageSet(((path.relative_to(folder).as_posix(), path) for path in found), str(folder))


def images_of_dataset(config: str | Path, dataset: str) -> ImageSet:
    """All images of a dataset; names are those of its annotation file.

    Args:
        config: A config file.
        dataset: A name of ``datasets`` such as ``objects365_train``, or where the dataset stands
            in the loaded config, such as ``train_dataloader.dataset`` or
            ``train_dataloader.dataset.datasets.0``. Of a dataset that holds others, the images
            of all.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If there is no such dataset; see also :class:`ImageSet`.
    """
    where = f'{config}, {dataset}'
    if not Path(config).is_file():
        raise FileNotFoundError(f'Config {config} does not exist')
    known = load_datasets(config)
    node: Any = known if dataset in known else load_config(config)
    for part in dataset.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ValueError(f'{config} has no {dataset}: {part} is missing') from error
    nodes = node if isinstance(node, (list, tuple)) else [node]
    return ImageSet((pair for each in nodes for pair in _dataset_images(each, where)), where)


def _dataset_images(cfg: Any, where: str) -> Iterator[tuple[str, Path]]:
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ValueError(f'{where} is no dataset: it has no type')
    members = cfg.get('datasets', [cfg['dataset']] if 'dataset' in cfg else None)
    if members is not None:
        for member in members:
            yield from _dataset_images(member, where)
        return
    dataset = DATASETS.build(dict(cfg, **_NOT_NEEDED))
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        yield info['file_name'], Path(info['img_path'])
