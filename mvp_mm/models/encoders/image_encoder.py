# Copyright (c) mvp_mm authors. All rights reserved.
"""The image encoder: any backbone, with a neck where it has no maps at strides 4 to 32."""
from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import torch
from mmdet.models.backbones.swin import SwinBlock
from mmengine.model import BaseModule
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mvp_mm.registry import MODELS


@MODELS.register_module()
class ImageEncoder(BaseModule):
    """Encodes each image once (paper section 3.1: a frozen Swin-B).

    Args:
        backbone: Config of a backbone with an attribute ``num_features`` (channels per level),
            such as :class:`SwinTransformer`, :class:`TimmBackbone` or :class:`PlainViT`.
        frozen: Keep the backbone in eval mode, without gradients. A neck, for which there are no
            pretrained weights, trains all the same.
        gradient_checkpointing: Gradient checkpointing: recompute the backbone's activations in
            the backward pass.
        neck: Config of what makes the four maps of the backbone's, such as
            :class:`SimpleFeaturePyramid`; ``in_channels`` come from the backbone.

    Raises:
        ValueError: If there are not four or five levels.
    """

    def __init__(self, backbone: dict, frozen: bool = True,
                 gradient_checkpointing: bool = False, neck: dict | None = None) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.frozen = frozen
        self.neck = neck and MODELS.build(
            dict(in_channels=self.backbone.num_features[-1], **neck))
        self.out_channels = [int(c) for c in (self.neck or self.backbone).num_features]
        if len(self.out_channels) not in (4, 5):
            hint = (" (for a plain ViT: encoder.neck=dict(type='SimpleFeaturePyramid'))"
                    if len(self.out_channels) == 1 else '')
            raise ValueError(
                f'The encoder needs 4 levels (strides 4 to 32) or 5 (strides 2 to 32), the '
                f'backbone has {len(self.out_channels)}{hint}')
        if gradient_checkpointing:
            self._recompute()
        if frozen:
            self.backbone.requires_grad_(False)

    def _recompute(self) -> None:
        if self.frozen:
            raise ValueError('encoder.gradient_checkpointing: a frozen encoder keeps no '
                             'activations, leave it out')
        if hasattr(self.backbone, 'set_grad_checkpointing'):
            self.backbone.set_grad_checkpointing()
            return
        blocks = [m for m in self.backbone.modules() if isinstance(m, SwinBlock)]
        if not blocks:
            raise ValueError(f'encoder.gradient_checkpointing: {type(self.backbone).__name__} '
                             'offers none')
        for block in blocks:
            # mmdet's own switch re-enters autograd, which sharding does not allow.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode and not self.frozen)
        if self.neck is not None:
            self.neck.train(mode)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, 3, H, W) images to maps (B, C_l, H / s, W / s), s = 4 (or 2), …, 16, 32."""
        with torch.no_grad() if self.frozen else nullcontext():
            maps = tuple(self.backbone(images))
        return maps if self.neck is None else self.neck(maps)
