# Copyright (c) mvp_mm authors. All rights reserved.
"""Make an open-vocabulary test of the synthetic world: unseen names and frozen features.

Some classes of the validation images get names that training has never read. In the place of
CLIP stands an encoder that has never seen the world (EfficientNet-Lite0, ImageNet): its maps are
the images' features, and their means over a class in some training images are its name's vector.

Example::

    PYTHONPATH=. python projects/open_vocabulary/synthetic_features.py --out data/open_vocabulary
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvp_mm.models.encoders import TimmBackbone
from projects.open_vocabulary.open_vocabulary.features import write_features

UNSEEN = {'star': 'sparkle', 'heart': 'valentine', 'water': 'lake'}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@torch.no_grad()
def frozen_map(encoder: TimmBackbone, path: Path) -> Tensor:
    """Compute the map (D, h, w) of an image: strides 8 and 16, on the grid of stride 8."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    pixels = (torch.from_numpy(image).float() - torch.tensor(_MEAN)) / torch.tensor(_STD)
    fine, coarse = encoder(pixels.permute(2, 0, 1)[None])[1:3]
    coarse = F.interpolate(coarse, fine.shape[-2:], mode='bilinear', align_corners=False)
    return torch.cat([F.normalize(fine, dim=1), F.normalize(coarse, dim=1)], 1)[0]


def read_world(world: Path, split: str) -> tuple[dict, dict[int, str]]:
    """Read the panoptic annotations of a split, and the names of its classes by id."""
    content = json.loads((world / f'annotations/panoptic_{split}.json').read_text())
    return content, {category['id']: category['name'] for category in content['categories']}


def class_means(encoder: TimmBackbone, world: Path, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """Average the maps of training images: by class (D,), and over everything (D,)."""
    content, names = read_world(world, 'train')
    sums: dict[str, Tensor] = {}
    cells: dict[str, float] = {}
    for record in content['annotations'][:count]:
        colour = cv2.imread(str(world / 'annotations/panoptic_train' / record['file_name']))
        ids = colour[..., ::-1].astype(np.int64) @ (1, 256, 65536)
        features = frozen_map(
            encoder, world / 'images/train' / f'{Path(record["file_name"]).stem}.jpg')
        for segment in record['segments_info']:
            mask = torch.from_numpy(ids == segment['id'])[None, None].float()
            weight = F.interpolate(mask, features.shape[-2:], mode='area')[0, 0]
            weight = weight * (weight > 0.9)    # cells that hold nothing else
            name = names[segment['category_id']]
            sums[name] = sums.get(name, 0) + (features * weight).sum((1, 2))
            cells[name] = cells.get(name, 0.0) + float(weight.sum())
    means = {name: total / max(cells[name], 1e-6) for name, total in sums.items()}
    return means, torch.stack(list(means.values())).mean(0)


def main() -> None:
    """Make features, text vectors and the renamed annotations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--world', type=Path, default=Path('data/synthetic'))
    parser.add_argument('--encoder', default='checkpoints/efficientnet_lite0.safetensors')
    parser.add_argument('--train-images', type=int, default=200, help='images for the means')
    parser.add_argument('--images', type=int, default=300, help='validation images')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    args = parser.parse_args()
    try:
        encoder = TimmBackbone('tf_efficientnet_lite0', args.encoder or None).eval()
        means, centre = class_means(encoder, args.world, args.train_images)
        content, _ = read_world(args.world, 'val')
        vectors = {UNSEEN.get(name, name): F.normalize(mean - centre, dim=0)
                   for name, mean in means.items()}
        files = [args.world / 'images/val' / image['file_name']
                 for image in content['images'][:args.images]]
        write_features(args.out, list(vectors), torch.stack(list(vectors.values())).numpy(), (
            (str(path), (frozen_map(encoder, path) - centre[:, None, None]).numpy())
            for path in files))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f'synthetic_features: error: {error}')
    for category in content['categories']:
        category['name'] = UNSEEN.get(category['name'], category['name'])
    (args.out / 'panoptic_val.json').write_text(json.dumps(content))
    print(f'{len(files)} images and {len(vectors)} names in {args.out}')


if __name__ == '__main__':
    main()
