# Copyright (c) mvp_mm authors. All rights reserved.
"""Draw the scenes of a world again: what is true of its images."""
from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from mvp_mm.synthetic.scene import Scene
from mvp_mm.synthetic.vocabulary import IMAGE_ID_OFFSET, SPLITS
from mvp_mm.synthetic.world import FORMAT_VERSION, WorldParameters, scene_of_image


class KnownScenes:
    """Draws the scenes that a world was made of.

    Args:
        data_root: Folder of the world.

    Raises:
        FileNotFoundError: If it is no synthetic world.
        ValueError: If its generator was another version.
    """

    def __init__(self, data_root: str | Path) -> None:
        path = Path(data_root) / 'world.json'
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such file: {data_root} is no synthetic world')
        self.path = path
        self.parameters = WorldParameters(**json.loads(path.read_text())['parameters'])
        if self.parameters.version != FORMAT_VERSION:
            raise ValueError(f'{path}: the world is of version {self.parameters.version}, this '
                             f'generator of version {FORMAT_VERSION}: make the world again')
        self._draw = lru_cache(maxsize=1024)(self._drawn)

    def __getitem__(self, number: int) -> Scene:
        """Return the scene of an image, by the number in its file name.

        Raises:
            KeyError: If the world has no such image.
        """
        return self._draw(number)

    def _drawn(self, number: int) -> Scene:
        split = max((name for name in SPLITS if IMAGE_ID_OFFSET[name] < number),
                    key=IMAGE_ID_OFFSET.__getitem__, default=SPLITS[0])
        index = number - IMAGE_ID_OFFSET[split] - 1
        if not 0 <= index < getattr(self.parameters, split):
            raise KeyError(f'{self.path}: the world has no image {number}')
        return scene_of_image(self.parameters.seed, split, index)[0]
