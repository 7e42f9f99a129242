# Copyright (c) mvp_mm authors. All rights reserved.
"""The image encoder: any backbone that returns maps at strides 4, 8, 16 and 32."""
from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import timm
import torch
from mmdet.models.backbones.swin import SwinBlock
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvp_mm.registry import MODELS


@MODELS.register_module()
class ImageEncoder(BaseModule):
    """Runs a backbone once an image (paper section 3.1: a frozen Swin-B).

    Args:
        backbone: Config of a backbone with an attribute ``num_features`` (channels per level),
            such as ``mmdet.SwinTransformer`` or :class:`TimmBackbone`.
        frozen: Keep it in eval mode, without gradients.
        gradient_checkpointing: Recompute the backbone's activations in the backward pass.
    """

    def __init__(self, backbone: dict, frozen: bool = True,
                 gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.frozen = frozen
        self.out_channels = [int(c) for c in self.backbone.num_features]
        if len(self.out_channels) != 4:
            raise ValueError(
                f'The encoder needs 4 levels (strides 4 to 32), the backbone has '
                f'{len(self.out_channels)}')
        if gradient_checkpointing:
            self._recompute()
        if frozen:
            self.requires_grad_(False)

    def _recompute(self) -> None:
        if self.frozen:
            raise ValueError('encoder.gradient_checkpointing: a frozen encoder keeps no '
                             'activations, leave it out')
        if isinstance(self.backbone, TimmBackbone):
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
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, 3, H, W) images to maps (B, C_l, H / s, W / s), s = 4, 8, 16, 32."""
        with torch.no_grad() if self.frozen else nullcontext():
            return tuple(self.backbone(images))


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """Any timm model that offers ``features_only``.

    Args:
        model_name: timm's name of the architecture.
        pretrained_path: Local checkpoint file, or None for random weights.
        out_indices: Stages to return; by default the last four.
        model_args: Further arguments of ``timm.create_model``.
    """

    def __init__(self, model_name: str, pretrained_path: str | None = None,
                 out_indices: tuple[int, ...] | None = None,
                 model_args: dict | None = None) -> None:
        super().__init__()
        self.pretrained = pretrained_path
        stages = out_indices or self._last_four(model_name, model_args or {})
        # As pretrained weights, timm fits a classifier's checkpoint to the feature extractor.
        weights = dict(pretrained=True, pretrained_cfg_overlay=dict(file=pretrained_path))
        self.model = timm.create_model(
            model_name, features_only=True, out_indices=stages,
            **(weights if pretrained_path else {}), **(model_args or {}))
        self.num_features = self.model.feature_info.channels()
        # Some timm transformers return channels last.
        self.channels_last = getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC'
        strides = self.model.feature_info.reduction()
        if list(strides) != [4, 8, 16, 32]:
            raise ValueError(f'{model_name}: stages {stages} have strides {strides}, '
                             f'need [4, 8, 16, 32]')

    @staticmethod
    def _last_four(model_name: str, model_args: dict) -> tuple[int, ...]:
        with torch.device('meta'):
            probe = timm.create_model(model_name, features_only=True, **model_args)
        count = len(probe.feature_info.channels())
        return tuple(range(count - 4, count))

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass.

        Raises:
            ValueError: If timm offers it for no part of the model.
        """
        offers = [m for m in self.model.modules()
                  if callable(getattr(m, 'set_grad_checkpointing', None))]
        if not offers:
            raise ValueError(f'encoder.gradient_checkpointing: timm offers none for '
                             f'{type(self.model).__name__}')
        offers[0].set_grad_checkpointing(True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.model(images)
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return tuple(maps)
