# Copyright (c) mvp_mm authors. All rights reserved.
"""The multi-scale deformable pixel decoder."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.building import checkpointed
from mvp_mm.models.position import grid_points
from mvp_mm.registry import MODELS


class DeformableEncoderLayer(nn.Module):
    """Runs deformable self-attention over all levels, then an FFN; post-norm."""

    def __init__(self, attention: dict, embed_dims: int, feedforward: int) -> None:
        super().__init__()
        self.attention = MODELS.build(attention)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.feedforward = nn.Sequential(
            nn.Linear(embed_dims, feedforward), nn.ReLU(), nn.Linear(feedforward, embed_dims))
        self.norm2 = nn.LayerNorm(embed_dims)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: Tensor,
                starts: Tensor, padding_mask: Tensor) -> Tensor:
        """Attend over all scales and transform each token: (B, S, C) to (B, S, C)."""
        attended = self.attention(
            tokens + position, tokens, reference, shapes, starts, padding_mask)
        tokens = self.norm1(tokens + attended)
        return self.norm2(tokens + self.feedforward(tokens))


class LevelLayout(NamedTuple):
    """Where the tokens of all levels lie.

    Attributes:
        shapes: (levels, 2) int64, heights and widths.
        starts: (levels,) int64, the first token of each level.
        level: (S,) int64, the level of each token.
        points: (S, 2) their centres, xy in [0, 1] of the canvas.
        position: (S, C) their position code; None where the code is a module, which may train.
    """

    shapes: Tensor
    starts: Tensor
    level: Tensor
    points: Tensor
    position: Tensor | None


class FinerMasks(nn.Module):
    """Doubles the resolution of the mask features with an encoder map of twice their sides.

    The upsampled mask features and a correction, which is zero at the start: weights trained
    without this step go on from where they were.

    Args:
        in_channels: Channels of the encoder's map.
        embed_dims: Width C.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        # Four times as many pixels: half the width, and a 3 × 3 convolution by channel.
        width = embed_dims // 2
        self.lateral = nn.Conv2d(in_channels, width, 1)
        self.merged = nn.Conv2d(embed_dims, width, 1)
        self.output = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, embed_dims, 1))
        # As its gradient lies, or DDP warns of two layouts.
        self.output[0].to(memory_format=torch.channels_last)
        nn.init.zeros_(self.output[-1].weight)
        nn.init.zeros_(self.output[-1].bias)

    def forward(self, finest: Tensor, merged: Tensor, mask_features: Tensor) -> Tensor:
        """Refine the mask features.

        Args:
            finest: (B, C_0, 2 h, 2 w), the encoder's map.
            merged: (B, C, h, w), the last map of the FPN.
            mask_features: (B, C, h, w), what has been made of it.

        Returns:
            (B, C, 2 h, 2 w).
        """
        # What reads the result wants channels together; large maps are not turned around then.
        finest, merged, mask_features = (
            maps.contiguous(memory_format=torch.channels_last)
            for maps in (finest, merged, mask_features))
        size = finest.shape[-2:]
        correction = self.output(self.lateral(finest) + upsample(self.merged(merged), size))
        return upsample(mask_features, size) + correction


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate maps (B, C, h, w) bilinearly to (B, C, *size)."""
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


@MODELS.register_module()
class MSDeformPixelDecoder(BaseModule):
    """Refines the encoder's maps into the decoder's memory and the mask features.

    Levels are the maps at strides 8, 16, 32 and one more at 64; the stride-4 map joins by one
    FPN step and carries the masks (design of Mask2Former and MaskDINO, used by the paper's
    decoder). Where the encoder has a map at stride 2 too, one more step makes masks of that
    stride, for small images.

    Args:
        in_channels: Channels of the encoder's maps at strides 4, 8, 16, 32, or 2 to 32.
        embed_dims: Width C.
        num_layers: Deformable layers.
        num_heads: Attention heads.
        num_points: Points sampled per head and level.
        feedforward: Width of the feed-forward nets.
        attention_type: Registered deformable attention.
        position: Config of the position code: ``DetrPosition``, which is the default and what
            pretrained weights expect, or ``CyclePosition``.
        gradient_checkpointing: Gradient checkpointing: recompute a layer's activations in the
            backward pass.
    """

    num_levels = 4

    def __init__(self, in_channels: list[int], embed_dims: int = 256, num_layers: int = 6,
                 num_heads: int = 8, num_points: int = 4, feedforward: int = 1024,
                 attention_type: str = 'DeformableAttention',
                 position: dict | None = None, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.gradient_checkpointing = gradient_checkpointing
        self._kept: dict[tuple, LevelLayout] = {}
        self.position = MODELS.build(position or dict(type='DetrPosition'))
        *stride_2, stride_4 = in_channels[:-3]
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, embed_dims, 1), nn.GroupNorm(32, embed_dims))
            for c in in_channels[-3:])
        self.extra = nn.Sequential(
            nn.Conv2d(in_channels[-1], embed_dims, 3, stride=2, padding=1),
            nn.GroupNorm(32, embed_dims))
        self.level_embed = nn.Parameter(torch.randn(self.num_levels, embed_dims) * 0.02)
        attention = dict(type=attention_type, embed_dims=embed_dims, num_heads=num_heads,
                         num_levels=self.num_levels, num_points=num_points)
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(attention, embed_dims, feedforward)
            for _ in range(num_layers))
        self.lateral = nn.Sequential(
            nn.Conv2d(stride_4, embed_dims, 1, bias=False), nn.GroupNorm(32, embed_dims))
        self.output = nn.Sequential(
            nn.Conv2d(embed_dims, embed_dims, 3, padding=1, bias=False),
            nn.GroupNorm(32, embed_dims), nn.ReLU(), nn.Conv2d(embed_dims, embed_dims, 1))
        self.finer = FinerMasks(stride_2[0], embed_dims) if stride_2 else None

    def forward(self, features: tuple[Tensor, ...],
                image_extent: Tensor) -> dict[str, Tensor | list[tuple[int, int]]]:
        """Refine the encoder's maps.

        Args:
            features: Maps (B, C_l, H / s, W / s), s = 4, 8, 16, 32, or from s = 2.
            image_extent: (B, 2), width and height of the image as shares of the canvas.

        Returns:
            Keyword arguments of :class:`ImageState`: memory (B, S, C), mask_features
            (B, C, H / s, W / s) of the finest stride, padding_mask (B, S), spatial_shapes,
            level_start_index, shapes.
        """
        maps = [conv(f) for conv, f in zip(self.inputs, features[-3:], strict=True)]
        maps.append(self.extra(features[-1]))
        shapes = [tuple(m.shape[-2:]) for m in maps]
        layout = self._layout(tuple(shapes), maps[0].device)
        padding_mask = (layout.points[None] > image_extent[:, None]).any(-1)
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        code = layout.position
        if code is None:
            code = self.position(shapes, self.embed_dims, tokens.device)
        position = code + self.level_embed.index_select(0, layout.level)
        reference = layout.points[None].expand(len(tokens), -1, -1)
        for layer in checkpointed(self.layers, self.gradient_checkpointing and self.training):
            tokens = layer(tokens, position, reference, layout.shapes, layout.starts, padding_mask)
        finest = tokens[:, :maps[0][0, 0].numel()].transpose(1, 2).reshape(*maps[0].shape)
        lateral = self.lateral(features[-4])
        merged = lateral + upsample(finest, lateral.shape[-2:])
        mask_features = self.output(merged)
        if self.finer is not None:
            mask_features = self.finer(features[0], merged, mask_features)
        # Masks are compared at points: those read whole pixels, whose channels then lie together.
        mask_features = mask_features.contiguous(memory_format=torch.channels_last)
        return dict(memory=tokens, mask_features=mask_features, padding_mask=padding_mask,
                    spatial_shapes=layout.shapes, level_start_index=layout.starts, shapes=shapes)

    def _layout(self, shapes: tuple[tuple[int, int], ...], device: torch.device) -> LevelLayout:
        """What depends on the sizes of the maps alone; made once, a captured graph reads it."""
        key = shapes, device
        if key not in self._kept:
            # Ordinary tensors also where the first caller is in inference mode.
            with torch.inference_mode(False), torch.no_grad():
                sizes = np.array([h * w for h, w in shapes])
                self._kept[key] = LevelLayout(
                    torch.tensor(shapes, device=device),
                    torch.from_numpy(sizes.cumsum() - sizes).to(device),
                    torch.from_numpy(np.arange(len(sizes)).repeat(sizes)).to(device),
                    grid_points(list(shapes), device),
                    None if isinstance(self.position, nn.Module) else self.position(
                        list(shapes), self.embed_dims, device))
        return self._kept[key]
