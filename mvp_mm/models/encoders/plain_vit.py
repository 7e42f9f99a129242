# Copyright (c) mvp_mm authors. All rights reserved.
"""Plain vision transformers, and the feature pyramid that gives them four strides."""
from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.encoders.timm_backbone import create_timm
from mvp_mm.registry import MODELS

STRIDE = 16


@MODELS.register_module()
class PlainViT(nn.Module):
    """Runs a plain ViT of timm (DINOv2, DINOv3, SigLIP, CLIP, MAE, …) as one map of stride 16.

    A token stands for 16 × 16 pixels of the canvas, whatever the patch size: where patches are
    of 14, the canvas is resampled by 14 / 16 first, so that maps keep an exact relation to
    boxes and masks and every token is the ViT's own. Position embeddings are resampled to the
    canvas by timm; class and register tokens are dropped.

    Needs ``encoder.neck=dict(type='SimpleFeaturePyramid')``. Pixels must be normed as the
    weights expect, by ``model.data_preprocessor`` (values of 0 to 255):

    - DINOv2, DINOv3, MAE, DeiT: ImageNet's mean [123.675, 116.28, 103.53] and std
      [58.395, 57.12, 57.375];
    - SigLIP, SigLIP 2, AugReg ViTs: mean and std 127.5;
    - CLIP, EVA-02: mean [122.771, 116.746, 104.094] and std [68.501, 66.632, 70.323].

    ``timm.get_pretrained_cfg(model_name)`` tells them for any other, as shares of 255.

    Args:
        model_name: timm's name of the architecture.
        pretrained_path: Local checkpoint file, or None for random weights.
        model_args: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: If the model is no plain ViT whose canvas may change.
    """

    def __init__(self, model_name: str, pretrained_path: str | None = None,
                 model_args: dict | None = None) -> None:
        super().__init__()
        self.pretrained = pretrained_path
        try:
            self.vit = create_timm(model_name, pretrained_path, num_classes=0, global_pool='',
                                   dynamic_img_size=True, **(model_args or {}))
        except TypeError as error:
            raise ValueError(f'{model_name} is no plain ViT of timm that takes other image sizes '
                             f'(dynamic_img_size): {error}') from None
        self.patch_size: int = self.vit.patch_embed.patch_size[0]
        self.num_features = [self.vit.embed_dim]

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        self.vit.set_grad_checkpointing(True)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Encode (B, 3, H, W) images to one map (B, W_vit, H / 16, W / 16).

        Raises:
            ValueError: If a side of the canvas is no multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % (2 * STRIDE) or width % (2 * STRIDE):
            raise ValueError(f'A canvas of {height} × {width} is no multiple of {2 * STRIDE}')
        rows, columns = height // STRIDE, width // STRIDE
        if self.patch_size != STRIDE:
            images = F.interpolate(
                images, (rows * self.patch_size, columns * self.patch_size), mode='bilinear',
                antialias=True)
        tokens = self.vit.forward_features(images)[:, self.vit.num_prefix_tokens:]
        return (tokens.transpose(1, 2).unflatten(2, (rows, columns)).contiguous(), )


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Makes maps at strides 4, 8, 16, 32 of a ViT's last map (ViTDet's simple feature pyramid).

    Two transposed convolutions, one, none, and a max-pooling. The maps at strides 16 and 32,
    which visual tokens come from, so hold nothing but the ViT's features; the lateral
    convolutions are those of the pixel decoder.

    Args:
        in_channels: Width of the ViT.
    """

    def __init__(self, in_channels: int) -> None:
        from timm.layers import LayerNorm2d

        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        self.num_features = [quarter, half, in_channels, in_channels]
        self.stride4 = nn.Sequential(
            nn.ConvTranspose2d(in_channels, half, 2, stride=2), LayerNorm2d(half), nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2))
        self.stride8 = nn.ConvTranspose2d(in_channels, half, 2, stride=2)

    def forward(self, maps: tuple[Tensor]) -> tuple[Tensor, ...]:
        """Make four maps (B, C_l, H / s, W / s), s = 4, 8, 16, 32, of (B, C, H / 16, W / 16)."""
        last = maps[-1]
        return self.stride4(last), self.stride8(last), last, F.max_pool2d(last, 2)
