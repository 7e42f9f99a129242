# Copyright (c) mvp_mm authors. All rights reserved.
"""Mask logits in the original image's frame, a band of rows or a few masks at a time.

A full-size float map costs 4 bytes per pixel and query: 200 queries on 12 megapixels are 9.6 GB.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Values of mask logits at full size that are held at once: 16 MB, on a GPU 256 MB.
_BUDGET, _DEVICE_BUDGET = 2**22, 2**26
_ALIGN = 8


def _budget(device: torch.device) -> int:
    return _BUDGET if device.type == 'cpu' else _DEVICE_BUDGET


def _height_width(shape: Sequence[int]) -> tuple[int, int]:
    return int(shape[0]), int(shape[1])


def rescale_mask_logits(mask_logits: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Move mask logits from the canvas to the original image.

    Costs n full-size maps: call it for the masks that are kept, a few at a time.

    Args:
        mask_logits: (n, H', W') over the canvas, at any stride.
        meta: ``batch_input_shape`` (H, W), ``img_shape`` and ``ori_shape`` (h, w).

    Returns:
        (n, h, w) float32 logits.
    """
    img_h, img_w = meta['img_shape'][:2]
    height, width = map(int, meta['ori_shape'][:2])
    size = height, width
    if mask_logits.shape[0] == 0:
        return mask_logits.new_zeros((0, *size), dtype=torch.float32)
    canvas_h, canvas_w = map(int, meta['batch_input_shape'][:2])
    canvas = _resize(mask_logits.float(), (canvas_h, canvas_w))
    return _resize(canvas[..., :img_h, :img_w], size).contiguous()


def rescaled_groups(mask_logits: Tensor, meta: Mapping[str, Any]) -> Iterator[Tensor]:
    """:func:`rescale_mask_logits` of a few masks after another, in order.

    Args:
        mask_logits: (n, H', W').
        meta: As in :func:`rescale_mask_logits`.

    Yields:
        (m, h, w) float32 logits of the next m masks.
    """
    height, width = map(int, meta['ori_shape'][:2])
    canvas_h, canvas_w = map(int, meta['batch_input_shape'][:2])
    # Never a single map beside others: torch may sum a single row in another order.
    pixels = max(height * width, canvas_h * canvas_w)
    most = max(2, _budget(mask_logits.device) // pixels)
    for group in mask_logits.tensor_split(max(1, len(mask_logits) // most)):
        yield rescale_mask_logits(group, meta)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (n, h, w) maps bilinearly; maps that have the size already are not touched."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    # As images of one channel: torch takes another kernel for some numbers of channels, and an
    # answer must not depend on the number of masks beside it.
    return F.interpolate(maps[:, None], size, mode='bilinear', align_corners=False)[:, 0]


class MaskBands:
    """The full-size logits of some queries, in bands of rows of bounded size.

    Iterating gives ``(logits, rows)`` from top to bottom: (m, b, w) contiguous float32 logits of b
    rows of the image, a multiple of 8 but for the last band, and the (n,) places of the queries
    among the m maps. Small images are one band. The values are those of
    :func:`rescale_mask_logits`.

    Args:
        mask_logits: (Q, H', W') over the canvas, at any stride.
        queries: (n,) those wanted, n > 0.
        meta: As in :func:`rescale_mask_logits`.
    """

    def __init__(self, mask_logits: Tensor, queries: Tensor, meta: Mapping[str, Any]) -> None:
        self.mask_logits, self.queries, self.meta = mask_logits, queries, meta
        self.size = _height_width(meta['ori_shape'])
        self.canvas = _height_width(meta['batch_input_shape'])
        self.filled = _height_width(meta['img_shape'])
        widest = max(self.size[1], self.canvas[1])
        budget = _budget(mask_logits.device)
        rows = max(_ALIGN, budget // (len(queries) * widest) // _ALIGN * _ALIGN)
        tallest = max(self.size[0], self.canvas[0])
        # Logits that lie in the image's frame are there already: nothing is made, all are one band.
        self.finished = (mask_logits.dtype == torch.float32 and mask_logits.is_contiguous() and
                         {self.canvas, self.filled, self.size} == {tuple(mask_logits.shape[-2:])})
        self.height = self.size[0] if self.finished or rows >= tallest else rows

    def __len__(self) -> int:
        return -(-self.size[0] // self.height)

    def select(self, places: Tensor) -> MaskBands:
        """The same image, for some of the queries."""
        return MaskBands(self.mask_logits, self.queries[places], self.meta)

    @property
    def frame(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Sizes (height, width) of the canvas, of what the image fills of it, and of the image."""
        return self.canvas, self.filled, self.size

    def small(self) -> tuple[Tensor, Tensor]:
        """(m, H', W') contiguous float32 maps over the canvas, and the (n,) queries' places."""
        if self.mask_logits.dtype == torch.float32 and self.mask_logits.is_contiguous():
            return self.mask_logits, self.queries
        every = torch.arange(len(self.queries), device=self.queries.device)
        return self.mask_logits[self.queries].float().contiguous(), every

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        every = torch.arange(len(self.queries), device=self.queries.device)
        if len(self) == 1:
            if self.finished:
                yield self.mask_logits, self.queries
            else:
                yield rescale_mask_logits(self.mask_logits[self.queries], self.meta), every
            return
        for top in range(0, self.size[0], self.height):
            yield self._band(top, min(top + self.height, self.size[0])), every

    def _band(self, top: int, bottom: int) -> Tensor:
        """(n, bottom - top, w) logits of some rows, from no more input rows than they need."""
        shapes = tuple(self.mask_logits.shape[-2:])
        outer = _Rows(self.filled[0], self.size[0], top, bottom, self.mask_logits.device)
        inner = _Rows(shapes[0], self.canvas[0], outer.first, outer.last, self.mask_logits.device)
        maps = self.mask_logits[self.queries, inner.first:inner.last].float()
        maps = inner.resize(maps, self.canvas[1])[..., :self.filled[1]]
        return outer.resize(maps, self.size[1]).contiguous()


class _Rows:
    """A bilinear resize that makes only some of the output's rows.

    Args:
        source: Rows of the input.
        target: Rows of the whole output.
        top: First row wanted.
        bottom: Row behind the last one wanted.
        device: Device of the maps.

    Attributes:
        first: First row of the input that is needed.
        last: Row of the input behind the last one needed.
    """

    def __init__(self, source: int, target: int, top: int, bottom: int,
                 device: torch.device) -> None:
        self.same = source == target
        if self.same:
            self.first, self.last = top, bottom
            return
        # As torch computes it: in float32 with one rounding, here by way of float64.
        scale = (torch.tensor(source, dtype=torch.float32) / target).double()
        at = torch.arange(top, bottom, dtype=torch.float64) + 0.5
        at = (scale * at - 0.5).float().clamp(min=0)
        upper = at.floor().clamp(max=source - 1)
        self.weight = (at - upper).clamp(0, 1)[:, None].to(device)
        upper = upper.long()
        lower = (upper + 1).clamp(max=source - 1)
        self.first, self.last = int(upper[0]), int(lower[-1]) + 1
        self.upper, self.lower = ((rows - self.first).to(device) for rows in (upper, lower))

    def resize(self, maps: Tensor, width: int) -> Tensor:
        """(n, last - first, w') maps to the (n, bottom - top, width) rows of the output."""
        maps = _resize(maps, (maps.shape[1], width))
        if self.same:
            return maps
        below = maps.index_select(1, self.lower).mul_(self.weight)
        above = maps.index_select(1, self.upper)
        # Written out along the rows: a broadcast weight would take torch's slow loop.
        return below.addcmul_(above, (1 - self.weight).expand(-1, width).contiguous())
