# Copyright (c) mvp_mm authors. All rights reserved.
"""Write frozen CLIP features of some images and class names.

The model comes from a local folder of transformers. The map of an image is the projected patch
tokens of the last layer, its longer side resized to the model's size; a name's vector is the
mean over the templates.

Example::

    PYTHONPATH=. python projects/open_vocabulary/extract_clip.py --model checkpoints/clip \
        --images data/ADEChallengeData2016/images/validation --names names.txt \
        --out data/open_vocabulary/ade20k
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from projects.open_vocabulary.open_vocabulary.features import write_features

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_TEMPLATES = ('a photo of a {}.', 'a photo of the {} in the scene.', 'there is a {} in the scene.')


class CLIPFeatures:
    """Computes features with a CLIP model of transformers.

    Args:
        folder: Local folder with weights and tokenizer.
    """

    def __init__(self, folder: str) -> None:
        self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.size = self.model.config.vision_config.image_size
        self.patch = self.model.config.vision_config.patch_size

    @torch.no_grad()
    def image(self, image: Image.Image) -> np.ndarray:
        """Compute the map (D, h, w) of an image, without the padding to a square."""
        ratio = self.size / max(image.size)
        width, height = (max(self.patch, round(side * ratio)) for side in image.size)
        pixels = torch.from_numpy(np.array(image.convert('RGB').resize((width, height)))).float()
        pixels = (pixels / 255 - pixels.new_tensor(_MEAN)) / pixels.new_tensor(_STD)
        square = F.pad(pixels.permute(2, 0, 1), (0, self.size - width, 0, self.size - height))
        vision = self.model.vision_model
        tokens = vision.post_layernorm(vision(square[None]).last_hidden_state[0, 1:])
        side = self.size // self.patch
        grid = self.model.visual_projection(tokens).T.unflatten(1, (side, side))
        return grid[:, :-(-height // self.patch), :-(-width // self.patch)].numpy()

    @torch.no_grad()
    def text(self, names: Sequence[str]) -> np.ndarray:
        """Compute unit vectors (K, D); a name of several, with commas, is their mean."""
        return torch.stack([self._name(name) for name in names]).numpy()

    def _name(self, name: str) -> Tensor:
        texts = [template.format(part.strip()) for part in name.split(',')
                 for template in _TEMPLATES]
        inputs = self.tokenizer(texts, padding=True, return_tensors='pt')
        pooled = self.model.text_model(
            inputs['input_ids'], attention_mask=inputs['attention_mask']).pooler_output
        vectors = F.normalize(self.model.text_projection(pooled), dim=-1)
        return F.normalize(vectors.mean(0), dim=-1)


def main() -> None:
    """Extract and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', required=True, help='local folder of a CLIP model')
    parser.add_argument('--images', type=Path, required=True, help='folder of images')
    parser.add_argument('--names', type=Path, required=True, help='class names, one per line')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    args = parser.parse_args()
    try:
        files = sorted(path for path in args.images.iterdir()
                       if path.suffix.lower() in ('.jpg', '.jpeg', '.png'))
        names = [line for line in args.names.read_text(encoding='utf-8').splitlines() if line]
        clip = CLIPFeatures(args.model)

        def maps() -> Iterator[tuple[str, np.ndarray]]:
            for path in files:
                with Image.open(path) as image:
                    yield str(path), clip.image(image)

        write_features(args.out, names, clip.text(names), maps())
    except (OSError, ValueError) as error:
        sys.exit(f'extract_clip: error: {error}')
    print(f'{len(files)} images and {len(names)} names in {args.out}')


if __name__ == '__main__':
    main()
