# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs the pipeline and the model on images in memory: prepare, encode once, perceive."""
from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import Compose
from torch import nn

from mvp_mm.datasets.transforms import PackPerceptionInputs, TokenizeRequests
from mvp_mm.models.state import ImageState
from mvp_mm.registry import TRANSFORMS
from mvp_mm.structures import Answering, ImageAnnotation, PerceptionDataSample, Request

_LOADERS = ('LoadImage', 'LoadImageFromFile', 'LoadImageFromNDArray')


@dataclass
class PreparedImage:
    """An image on the model's canvas.

    Attributes:
        name: Its name in messages and answers.
        size: (h, w) of the original image.
        results: What the pipeline's image transforms made.
    """

    name: str
    size: tuple[int, int]
    results: dict[str, Any]

    @property
    def pixels(self) -> int:
        """Pixels of the image or of its canvas, whichever has more."""
        return max(math.prod(self.size), math.prod(self.results['img'].shape[:2]))


@dataclass
class EncodedImages:
    """B images that the encoder has seen.

    Attributes:
        images: The images.
        state: What the model made of them.
        canvas: (H, W) of the canvas.
    """

    images: Sequence[PreparedImage]
    state: ImageState
    canvas: tuple[int, int]


class Perceiver:
    """Asks a model about prepared images; changes no state, so threads may share it.

    Args:
        model: The model, in eval mode on its device.
        transforms: Transform configs from an image and ``requests`` to packed inputs.
        dtype: Precision of matrix products under autocast; None for the weights' own.
    """

    def __init__(self, model: nn.Module, transforms: Sequence[dict[str, Any]],
                 dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = dtype
        steps = [TRANSFORMS.build(transform) for transform in transforms]
        # The image is already read, and questions come later than images.
        asking = (TokenizeRequests, PackPerceptionInputs)
        self._of_image = Compose([step for step in steps if not isinstance(step, asking)
                                  and type(step).__name__ not in _LOADERS])
        self._of_question = Compose([step for step in steps if isinstance(step, asking)])

    def prepare(self, pixels: np.ndarray, name: str) -> PreparedImage:
        """Put an image (h, w, 3), uint8 BGR, on the canvas.

        Raises:
            ValueError: If it cannot be resized; names the image.
        """
        shape = pixels.shape[:2]
        try:
            results = self._of_image(dict(
                img=pixels.copy(), img_path=name, img_id=0, img_shape=shape, ori_shape=shape,
                height=shape[0], width=shape[1],
                # Nothing is known about the image: no objects, as the transforms expect it.
                annotation=ImageAnnotation(source=name),
                gt_bboxes=HorizontalBoxes(torch.zeros(0, 4)),
                gt_bboxes_labels=np.zeros(0, dtype=np.int64), num_objects=0))
        except cv2.error as error:
            raise ValueError(f'{name}: an image of {shape[1]} x {shape[0]} pixels cannot be '
                             f'resized: {error.err or error}') from error
        return PreparedImage(name, shape, results)

    @torch.inference_mode()
    def encode(self, images: Sequence[PreparedImage]) -> EncodedImages:
        """Run encoder, connector and pixel decoder on B images."""
        samples, planes = [], []
        for image in images:
            planes.append(torch.from_numpy(
                np.ascontiguousarray(image.results['img'].transpose(2, 0, 1))))
            samples.append([PerceptionDataSample(
                metainfo=dict(img_path=image.name, img_shape=image.results['img_shape']))])
        data = self.model.data_preprocessor(dict(inputs=planes, data_samples=samples), False)
        with self._precision():
            state = self.model.encode(data['inputs'], data['data_samples'])
        return EncodedImages(images, state, tuple(data['inputs'].shape[-2:]))

    @torch.inference_mode()
    def perceive(self, encoded: EncodedImages, requests: Sequence[Sequence[Request]],
                 thinking: bool | None, answering: Answering,
                 compact_masks: bool = False) -> list[list[PerceptionDataSample]]:
        """Answer requests about encoded images, all in one batch.

        Args:
            encoded: B images.
            requests: The requests of each image.
            thinking: Let the LLM write first; None for the model's own setting.
            answering: Options of decoding.
            compact_masks: Give the instances' masks as COCO RLE dicts.

        Returns:
            The samples of each image, with predictions.

        Raises:
            ValueError: If a question is longer than the context.
        """
        grouped = []
        pairs = zip(encoded.images, requests, strict=True)
        for index, (image, asked) in enumerate(pairs):
            packed = self._of_question(dict(image.results, requests=list(asked)))
            for sample in packed['data_samples']:
                sample.set_metainfo(dict(image_index=index, batch_input_shape=encoded.canvas,
                                        compact_masks=compact_masks))
            grouped.append(packed['data_samples'])
        flat = [sample for samples in grouped for sample in samples]
        with self._precision():
            self.model.predict(inputs=None, data_samples=flat, thinking=thinking,
                               answering=answering, state=encoded.state)
        return grouped

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.dtype is None:
            return contextlib.nullcontext()
        device = next(self.model.parameters()).device
        return torch.autocast(device.type, self.dtype)
