# Copyright (c) mvp_mm authors. All rights reserved.
"""mmdet's Swin Transformer with fused window attention."""
from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.backbones.swin import ShiftWindowMSA
from mmdet.models.backbones.swin import SwinTransformer as MMDetSwinTransformer
from torch import Tensor, nn

from mvp_mm.registry import MODELS


@cache
def shift_mask(height: int, width: int, window: int, shift: int,
               device: torch.device) -> Tensor:
    """Mask attention between regions that only the cyclic shift brings into one window.

    Args:
        height: Rows of the padded map, a multiple of ``window``.
        width: Its columns, likewise.
        window: Side of a window.
        shift: Shift of the windows.
        device: Where the mask goes.

    Returns:
        (W, 1, N, N) float32 added to the logits of W windows of N tokens: 0 or Swin's -100.
    """
    bands = [torch.bucketize(torch.arange(side), torch.tensor([side - window, side - shift]),
                             right=True) for side in (height, width)]
    region = (3 * bands[0][:, None] + bands[1]).to(device)[None, :, :, None]
    region = partition(region, window).flatten(1)
    # An ordinary tensor also where the first caller is in inference mode.
    with torch.inference_mode(False):
        return (region[:, None] != region[:, :, None]).float()[:, None] * -100.0


def partition(maps: Tensor, window: int) -> Tensor:
    """Cut maps (B, H, W, C) into windows (B · W, window², C)."""
    batch, height, width, channels = maps.shape
    cut = maps.view(batch, height // window, window, width // window, window, channels)
    return cut.transpose(2, 3).reshape(-1, window * window, channels)


def join(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Put windows (B · W, window², C) together to maps (B, H, W, C)."""
    rows, columns = height // window, width // window
    cut = windows.view(-1, rows, columns, window, window, windows.shape[-1])
    return cut.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


class ShiftedWindowAttention(nn.Module):
    """Computes the attention of mmdet's ``ShiftWindowMSA``, whose parameters it takes over.

    Logits, bias, mask and softmax are one call of PyTorch's scaled dot-product attention: no
    (windows, heads, N, N) tensor is made, and masks are made once per size of the map.

    Args:
        attention: The module to stand in for; parameters keep their names.
    """

    def __init__(self, attention: ShiftWindowMSA) -> None:
        super().__init__()
        self.w_msa = attention.w_msa
        self.drop = attention.drop
        self.window = attention.window_size
        self.shift = attention.shift_size
        self._bias: dict[torch.dtype, tuple[tuple, Tensor]] = {}

    def forward(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """Let tokens (B, H · W, C) of maps of ``shape`` (H, W) attend within their windows."""
        batch, _, channels = tokens.shape
        height, width = shape
        below, right = -height % self.window, -width % self.window
        maps = tokens.view(batch, height, width, channels)
        if below or right:
            maps = F.pad(maps, (0, 0, 0, right, 0, below))
        if self.shift:
            maps = maps.roll((-self.shift, -self.shift), (1, 2))
        padded = maps.shape[1:3]
        maps = join(self._attend(partition(maps, self.window), batch, padded),
                    self.window, *padded)
        if self.shift:
            maps = maps.roll((self.shift, self.shift), (1, 2))
        if below or right:
            maps = maps[:, :height, :width]
        return self.drop(maps.reshape(batch, height * width, channels))

    def _attend(self, windows: Tensor, batch: int, padded: tuple[int, int]) -> Tensor:
        """Attend within windows (B · W, N, C) of maps of a padded size."""
        attention = self.w_msa
        count, size, channels = windows.shape
        heads = attention.num_heads
        qkv = attention.qkv(windows).view(count, size, 3, heads, -1)
        bias = self._position_bias(qkv.dtype)
        if self.shift:
            mask = shift_mask(*padded, self.window, self.shift, windows.device)
            bias = (bias + mask.to(qkv.dtype)).flatten(0, 1)
            # Windows count as heads: the batch shares their masks.
            qkv = qkv.view(batch, -1, *qkv.shape[1:]).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        else:
            qkv = qkv.permute(2, 0, 3, 1, 4)
        dropout = attention.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(
            *qkv.unbind(), attn_mask=bias.expand(qkv.shape[1], -1, -1, -1), dropout_p=dropout,
            scale=attention.scale)
        out = out.unflatten(1, (-1, heads)).transpose(2, 3).reshape(count, size, channels)
        return attention.proj_drop(attention.proj(out))

    def _position_bias(self, dtype: torch.dtype) -> Tensor:
        """(heads, N, N) of relative positions; kept where it is frozen."""
        table = self.w_msa.relative_position_bias_table
        if torch.is_grad_enabled() and table.requires_grad:
            return self._make_bias(table).to(dtype)
        key = (table.data_ptr(), table._version, table.device)
        if dtype not in self._bias or self._bias[dtype][0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._bias[dtype] = key, self._make_bias(table).to(dtype)
        return self._bias[dtype][1]

    def _make_bias(self, table: Tensor) -> Tensor:
        index = self.w_msa.relative_position_index
        return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1).contiguous()


@MODELS.register_module()
class SwinTransformer(MMDetSwinTransformer):
    """mmdet's Swin Transformer with fused window attention: same parameters, same results.

    Args:
        **settings: See ``mmdet.SwinTransformer``, which is the same without fused attention.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for stage in self.stages:
            for block in stage.blocks:
                block.attn = ShiftedWindowAttention(block.attn)
