# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic argmax with bounds per 8 x 8 tile; exact."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.tasks.decoding.bands import MaskBands

_TILE = 8
# Query-tile pairs whose pixels are looked at together, which bounds the memory.
_PAIRS = 2**16
# Sigmoid and product may turn the order of two nearly equal values round.
_SLACK = 1e-5


@dataclass
class Division:
    """Pixels divided among n queries.

    Attributes:
        owner: (h, w) int32, the query of the highest score times probability; n where this query's
            mask does not claim the pixel.
        alive: (n,) bool, whether a query owns enough of what its mask claims, and anything at all.
    """

    owner: Tensor
    alive: Tensor


@torch.no_grad()
def divide_pixels(masks: MaskBands, scores: Tensor, *, mask_thr: float,
                  overlap_thr: float) -> Division:
    """Divide an image's pixels among queries.

    Exactly what ``(scores * logits.sigmoid()).argmax(0)`` and ``logits.sigmoid() >= mask_thr``
    say, the first of equal values winning. Most tiles lie inside or outside of every mask: their
    highest and lowest logit tell the outcome. Only the pixels of the other tiles, and there only
    of the queries that may win, are computed; and the pixels that a mask claims are counted
    only where bounds leave open whether the query owns enough of them. On the CPU the compiled
    kernel does so, where it is built, and resizes the masks as it reads them.

    Args:
        masks: The mask logits of n > 0 queries.
        scores: (n,) their scores, positive.
        mask_thr: Probability from which a pixel is claimed.
        overlap_thr: Least share of the claimed pixels in which a query must be the highest.
    """
    kernel = load_kernel() if scores.device.type == 'cpu' else None
    if kernel is not None:
        owner, (owned, visible, claimed) = kernel.divide_pixels(
            *masks.small(), scores, *masks.frame, mask_thr, _SLACK)
        return Division(owner, (visible > 0) & (owned >= overlap_thr * claimed))
    counts = _Counts(len(scores), scores.device)
    owners = []
    for band in masks:
        tiles = _Tiles(*band, scores, mask_thr)
        owner, owned = _owners(tiles)
        counts.add(tiles, owner, owned)
        owners.append(tiles.as_image(owner))
    unclear = counts.unclear(overlap_thr)
    places = unclear.nonzero()[:, 0]
    if len(places) and len(masks) == 1:
        counts.boundary += _count_boundary_pixels(tiles, unclear)
    elif len(places):
        for band in masks.select(places):
            tiles = _Tiles(*band, scores[places], mask_thr)
            counts.boundary[places] += _count_boundary_pixels(tiles, tiles.scores > 0)
    return Division(torch.cat(owners).int(), counts.alive(overlap_thr, unclear))


class _Counts:
    """Pixels of n queries over all bands of an image.

    Attributes:
        owned: Where the query is the highest, claimed or not.
        visible: Those that it gets.
        certain: In tiles that its mask has whole.
        mixed: In tiles where its mask may end.
        boundary: Those of ``mixed`` that it claims, where they have been counted.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        zeros = torch.zeros(5, count, dtype=torch.int64, device=device)
        self.owned, self.visible, self.certain, self.mixed, self.boundary = zeros

    def add(self, tiles: _Tiles, owner: Tensor, owned: Tensor) -> None:
        """Add a band: (T, 64) owners and the (n,) numbers of pixels where each is the highest."""
        count = len(self.owned)
        self.owned += owned
        self.visible += torch.bincount(
            owner[tiles.real_pixels(tiles.numbers)], minlength=count + 1)[:count]
        self.certain += (tiles.full * tiles.area[:, None]).sum(0)
        self.mixed += (tiles.mixed * tiles.area[:, None]).sum(0)

    def unclear(self, overlap_thr: float) -> Tensor:
        """(n,) bool, where the bounds of the claimed pixels leave the outcome open."""
        return ((self.visible > 0) & (self.owned >= overlap_thr * self.certain)
                & (self.owned < overlap_thr * (self.certain + self.mixed)))

    def alive(self, overlap_thr: float, counted: Tensor) -> Tensor:
        """(n,) bool, whether a query owns enough; ``counted`` tells where ``boundary`` holds."""
        most = self.certain + self.mixed
        claimed = torch.where(self.owned >= overlap_thr * most, most, self.certain)
        claimed = torch.where(counted, self.certain + self.boundary, claimed)
        return (self.visible > 0) & (self.owned >= overlap_thr * claimed)


class _Tiles:
    """What the extremes of T tiles tell of n queries; all flags are (T, n) bool.

    Attributes:
        candidate: The query may own a pixel.
        full: The query's mask has the whole tile.
        mixed: The mask may end inside the tile.
        first: (T,) the first candidate.
        resolved: (T,) whether the first candidate owns the tile, and claims all of it or nothing.
        area: (T,) pixels.
        numbers: (T,) 0 ... T - 1.
    """

    def __init__(self, logits: Tensor, rows: Tensor, scores: Tensor, mask_thr: float) -> None:
        self.logits, self.rows, self.scores, self.mask_thr = logits, rows, scores, mask_thr
        self.height, self.width = logits.shape[1:]
        highest, lowest = _extremes(logits, rows)
        self.down, self.across = highest.shape[1:]
        highest, lowest = (t.flatten(1).T.sigmoid() for t in (highest, lowest))
        certain = (lowest * scores).amax(1, keepdim=True)
        # Negated, so that a NaN makes a candidate and not a silent winner.
        self.candidate = ~(highest * scores < certain * (1 - _SLACK))
        self.full = lowest > mask_thr + _SLACK
        self.mixed = ~(self.full | (highest < mask_thr - _SLACK))
        self.lone = self.candidate.sum(1) == 1
        self.first = self.candidate.byte().argmax(1)
        self.resolved = self.lone & ~self.mixed.gather(1, self.first[:, None])[:, 0]
        self.numbers = torch.arange(self.down * self.across, device=logits.device)
        self.area = self.real_pixels(self.numbers).sum(1)

    def as_image(self, values: Tensor) -> Tensor:
        """(T, 64) values of the tiles' pixels as (h, w)."""
        values = values.view(self.down, self.across, _TILE, _TILE).transpose(1, 2)
        return values.reshape(self.down * _TILE, self.across * _TILE)[:self.height, :self.width]

    def _places(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of (k,) tiles' pixels, (k, 64) each; some beyond the image."""
        inner = torch.arange(_TILE * _TILE, device=tiles.device)
        y = (tiles // self.across * _TILE)[:, None] + inner // _TILE
        x = (tiles % self.across * _TILE)[:, None] + inner % _TILE
        return y, x

    def real_pixels(self, tiles: Tensor) -> Tensor:
        """(k, 64) bool, which pixels of (k,) tiles lie in the image."""
        y, x = self._places(tiles)
        return (y < self.height) & (x < self.width)

    def probabilities(self, tiles: Tensor, queries: Tensor) -> Tensor:
        """(k, 64) probabilities of (k,) pairs; pixels beyond the image repeat its edge."""
        y, x = self._places(tiles)
        place = y.clamp_(max=self.height - 1).mul_(self.width).add_(x.clamp_(max=self.width - 1))
        place += (self.rows[queries] * (self.height * self.width))[:, None]
        return self.logits.view(-1).take(place).sigmoid_()


def _extremes(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Highest and lowest logit of each tile, (n, ceil(h / 8), ceil(w / 8)) each."""
    height, width = logits.shape[1:]
    shape = (len(rows), -(-height // _TILE), width)
    highest, lowest = logits.new_empty(shape), logits.new_empty(shape)
    # Map by map, so that the second reading finds it in the cache.
    for row, high, low in zip(rows.tolist(), highest, lowest, strict=True):
        _reduce(logits[row], 0, torch.amax, high)
        _reduce(logits[row], 0, torch.amin, low)
    shape = (*shape[:2], -(-width // _TILE))
    return (_reduce(highest, 2, torch.amax, logits.new_empty(shape)),
            _reduce(lowest, 2, torch.amin, logits.new_empty(shape)))


def _reduce(maps: Tensor, dim: int, extreme: Callable[..., Tensor], out: Tensor) -> Tensor:
    """Write the extremes of groups of 8 along a dimension, the last group may be smaller."""
    groups, rest = divmod(maps.shape[dim], _TILE)
    if groups:
        whole = maps.narrow(dim, 0, groups * _TILE).unflatten(dim, (groups, _TILE))
        extreme(whole, dim=dim + 1, out=out.narrow(dim, 0, groups))
    if rest:
        extreme(maps.narrow(dim, groups * _TILE, rest), dim=dim, keepdim=True,
                out=out.narrow(dim, groups, 1))
    return out


def _owners(tiles: _Tiles) -> tuple[Tensor, Tensor]:
    """Find the query of the highest value per pixel.

    Returns:
        (T, 64) queries, n where the query's mask does not claim the pixel, and the (n,) number of
        pixels where each is the highest, claimed or not.
    """
    count = tiles.candidate.shape[1]
    claims = tiles.full.gather(1, tiles.first[:, None])[:, 0]
    owner = torch.where(claims, tiles.first, count)[:, None].repeat(1, _TILE * _TILE)
    owned = torch.zeros(count, dtype=torch.int64, device=owner.device)
    owned.index_add_(0, tiles.first, tiles.area * tiles.resolved)
    contested = (~tiles.resolved).nonzero()[:, 0]
    for part in contested.split(max(1, _PAIRS // count)):
        winner, inside = _compete(tiles, part)
        owned += torch.bincount(winner[tiles.real_pixels(part)], minlength=count + 1)[:count]
        owner[part] = torch.where(inside, winner, count)
    return owner, owned


def _compete(tiles: _Tiles, part: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the candidates' pixels in (t,) tiles.

    Returns:
        (t, 64) winners, and whether the winner's mask claims the pixel.
    """
    count = tiles.candidate.shape[1]
    local, query = tiles.candidate[part].nonzero(as_tuple=True)
    probability = tiles.probabilities(part[local], query)
    query = query[:, None]
    inside = probability >= tiles.mask_thr
    value = probability.mul_(tiles.scores[query])
    where = local[:, None].expand(-1, _TILE * _TILE)
    best = value.new_full((len(part), _TILE * _TILE), -1.).scatter_reduce_(
        0, where, value, 'amax')
    # The first of equal values wins; the lowest bit tells whether its mask claims the pixel.
    key = torch.where(value == best[local], 2 * query + ~inside, 2 * count)
    key = key.new_full(best.shape, 2 * count).scatter_reduce_(0, where, key, 'amin')
    return key // 2, key % 2 == 0


def _count_boundary_pixels(tiles: _Tiles, queries: Tensor) -> Tensor:
    """Pixels that the masks of some queries, (n,) bool, claim in tiles where they may end."""
    claimed = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    tile, query = (tiles.mixed & queries).nonzero(as_tuple=True)
    for some, of in zip(tile.split(_PAIRS), query.split(_PAIRS), strict=True):
        inside = tiles.probabilities(some, of) >= tiles.mask_thr
        claimed.index_add_(0, of, (inside & tiles.real_pixels(some)).sum(1))
    return claimed
