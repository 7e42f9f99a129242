# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes one image tensor and a flat list of instructions of collated samples."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor

from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample


@MODELS.register_module()
class PerceptionDataPreprocessor(ImgDataPreprocessor):
    """Normalises and pads images, and lists every instruction with the row of its image.

    Of the samples only masks go to the device: the model pads boxes and labels on the host.

    Args:
        mean: Channel means of RGB pixels.
        std: Channel deviations.
        pad_size_divisor: Canvas sides become multiples of it.
    """

    def __init__(self, mean: list[float], std: list[float], pad_size_divisor: int = 32) -> None:
        super().__init__(
            mean=mean, std=std, bgr_to_rgb=True, pad_size_divisor=pad_size_divisor)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise and pad a batch.

        Args:
            data: ``inputs``, B uint8 tensors (3, h, w) in BGR; ``data_samples``, B lists of
                data samples.
            training: Whether the batch is for training.

        Returns:
            ``inputs`` (B, 3, H, W) and ``data_samples``, the flat list of R samples, each with
            ``image_index`` and ``batch_input_shape`` set and masks padded to the canvas.

        Raises:
            ValueError: If the samples are not grouped by image, as without
                ``collate_fn=dict(type='perception_collate')``.
        """
        _check_groups(data['inputs'], data['data_samples'])
        data = super().forward(data, training)
        canvas = tuple(data['inputs'].shape[-2:])
        flat = []
        for index, samples in enumerate(data['data_samples']):
            for sample in samples:
                sample.set_metainfo(dict(image_index=index, batch_input_shape=canvas))
                instances = sample.get('gt_instances')
                if instances is not None and 'masks' in instances:
                    height, width = instances.masks.shape[-2:]
                    if (height, width) != canvas:
                        instances.masks = F.pad(
                            instances.masks, (0, canvas[1] - width, 0, canvas[0] - height))
                flat.append(sample)
        return dict(inputs=data['inputs'], data_samples=flat)

    def cast_data(self, data: Any) -> Any:
        """Move tensors to the model's device; of a data sample, its masks alone."""
        if isinstance(data, PerceptionDataSample):
            return masks_on_device(data, self.device)
        return super().cast_data(data)


def masks_on_device(sample: PerceptionDataSample,
                    device: torch.device | str) -> PerceptionDataSample:
    """Copy a sample, with its true masks on a device and everything else where it is."""
    sample = sample.new()
    instances = sample.get('gt_instances')
    if instances is not None and 'masks' in instances:
        sample.gt_instances = instances.new()
        sample.gt_instances.masks = instances.masks.to(device, non_blocking=True)
    return sample


def _check_groups(inputs: Any, groups: Any) -> None:
    """Refuse a batch in which a sample would be paired with another image than its own.

    A collation that transposes gives as many groups as an image has samples, or, where these are
    as many as the images, groups of samples of different images.
    """
    sizes = [len(group) if isinstance(group, (list, tuple)) else 'no list' for group in groups]
    fits = len(inputs) == len(groups) and 'no list' not in sizes and all(
        len({sample.get('img_path') for sample in group}) <= 1 for group in groups)
    if not fits:
        raise ValueError(
            f'A batch of {len(inputs)} images has data samples in {len(sizes)} groups of {sizes}, '
            "which are not the images' own: set collate_fn=dict(type='perception_collate') in "
            'the data loader')
