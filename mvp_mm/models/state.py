# Copyright (c) mvp_mm authors. All rights reserved.
"""What flows through the model: state per image, instructions and queries per row."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mvp_mm.models.packing import RowLayout
from mvp_mm.structures import PerceptionDataSample

if TYPE_CHECKING:
    from mvp_mm.models.image_prefix import ImagePrefixes


@dataclass
class ImageState:
    """What instructions need to know of B images.

    Attributes:
        visual_tokens: (B, V, D).
        memory: (B, S, C) multi-scale tokens, finest level first.
        mask_features: (B, C, H / s, W / s), s = 4, or 2 where the encoder has such a map.
        padding_mask: (B, S) bool, True outside the image.
        spatial_shapes: (levels, 2) int64.
        level_start_index: (levels,) int64.
        shapes: The same shapes as Python pairs.
        prefixes: Where given, the LLM's work on the image is kept there and used again.
    """

    visual_tokens: Tensor
    memory: Tensor | None = None
    mask_features: Tensor | None = None
    padding_mask: Tensor | None = None
    spatial_shapes: Tensor | None = None
    level_start_index: Tensor | None = None
    shapes: list[tuple[int, int]] | None = None
    prefixes: ImagePrefixes | None = None


def image_extent(images: Tensor, samples: list[PerceptionDataSample]) -> Tensor:
    """Give the width and height (B, 2) of each image as shares of the canvas.

    Args:
        images: (B, 3, H, W) on the canvas.
        samples: Samples that know their image's size; an image without any fills the canvas.
    """
    canvas = np.array(images.shape[:-3:-1], dtype=np.float32)
    extent = np.tile(canvas, (len(images), 1))
    for sample in samples:
        extent[sample.image_index] = sample.img_shape[1::-1]
    return torch.from_numpy(extent / canvas).to(images.device, non_blocking=True)


class QueriesPerImage:
    """Packs the queries of all instructions of an image: (R, Q, …) → (B, M·Q, …).

    So image features are not repeated per instruction. M is the most rows that an image has;
    missing rows are zeros.

    Args:
        image_index: (R,) int64, the image of each row.
        num_images: B.
        known: The same indices on the host; without them, the device is waited for.
    """

    def __init__(self, image_index: Tensor, num_images: int,
                 known: Sequence[int] | None = None) -> None:
        self.image_index = image_index
        self.num_images = num_images
        onehot = image_index[:, None] == torch.arange(num_images, device=image_index.device)
        rank = (onehot.cumsum(0) - 1).gather(1, image_index[:, None])[:, 0]
        rows = image_index.tolist() if known is None else known
        self.rows_per_image = max(Counter(rows).values(), default=1)
        self.slot = image_index * self.rows_per_image + rank

    def pack(self, rows: Tensor) -> Tensor:
        """(R, Q, …) → (B, M·Q, …)."""
        slots = rows.new_zeros((self.num_images * self.rows_per_image, *rows.shape[1:]))
        slots = slots.index_copy(0, self.slot, rows)
        return slots.view(self.num_images, self.rows_per_image * rows.shape[1], *rows.shape[2:])

    def unpack(self, packed: Tensor) -> Tensor:
        """(B, M·Q, …) → (R, Q, …)."""
        queries = packed.shape[1] // self.rows_per_image
        slots = packed.reshape(-1, queries, *packed.shape[2:])
        return slots.index_select(0, self.slot)


@dataclass
class DecoderQueries:
    """What the decoder starts from: Q queries in each of R rows.

    Attributes:
        content: (R, Q, C).
        boxes: (R, Q, 4) reference boxes cxcywh in [0, 1].
        allowed: (R, Q, Q) bool self-attention: whether a query (dim 1) attends to another
            (dim 2); every query attends to itself.
        valid: (R, Q) bool, queries that take part in matching and losses.
    """

    content: Tensor
    boxes: Tensor
    allowed: Tensor
    valid: Tensor

    def with_rows(self, more: DecoderQueries) -> DecoderQueries:
        """Append rows of the same Q."""
        return DecoderQueries(
            torch.cat([self.content, more.content]), torch.cat([self.boxes, more.boxes]),
            torch.cat([self.allowed, more.allowed]), torch.cat([self.valid, more.valid]))


@dataclass(frozen=True)
class HostRows:
    """What the host knows of R rows: to ask the device would be to wait for it.

    Attributes:
        layout: Lengths of the rows, and what they share; None after a selection of rows.
        image_index: The image of each row.
        use_stuff: Whether a row asks for the stuff queries.
        supervised: (n,) int64 places among (R · T) whose next token is supervised; None after a
            selection.
        is_word: (R,) bool, rows that are word lists; None where there are no targets.
        is_thing: (R, K) bool, the phrases that are things; likewise.
    """

    layout: RowLayout | None
    image_index: list[int]
    use_stuff: list[bool]
    supervised: np.ndarray | None
    is_word: np.ndarray | None = None
    is_thing: np.ndarray | None = None

    def select(self, rows: list[int]) -> HostRows:
        """Select rows by index."""
        return HostRows(None, [self.image_index[r] for r in rows],
                        [self.use_stuff[r] for r in rows], None,
                        self.is_word[rows], self.is_thing[rows])

    def extended(self, count: int) -> HostRows:
        """Describe the same rows with ``count`` more tokens each, which are not supervised."""
        return replace(self, layout=self.layout and self.layout.extended(count), supervised=None)


@dataclass
class InstructionBatch:
    """R tokenised instructions, padded on the right.

    Attributes:
        ids: (R, T) int64.
        mask: (R, T) bool, True at real tokens.
        phrase_index: (R, T) int64, -1 outside phrases.
        labels: (R, T) int64, -100 outside responses.
        image_start: (R,) int64, first visual position, -1 without image.
        image_index: (R,) int64.
        phrase_mask: (R, K) bool.
        is_thing: (R, K) bool.
        is_word: (R,) bool; False for sentences.
        use_stuff: (R,) bool, whether the stuff queries take part.
        needs_decoder: (R,) bool; False for captioning.
        per_position: (R,) int64, position of ``<PER>``; 0 where a row has none (captions, prompts
            without their response).
    """

    ids: Tensor
    mask: Tensor
    phrase_index: Tensor
    labels: Tensor
    image_start: Tensor
    image_index: Tensor
    phrase_mask: Tensor
    is_thing: Tensor
    is_word: Tensor
    use_stuff: Tensor
    needs_decoder: Tensor
    per_position: Tensor
    host: HostRows | None = None

    @classmethod
    def collate(cls, samples: list[PerceptionDataSample], device: torch.device,
                per_id: int | None = None) -> InstructionBatch:
        """Pad the samples' instructions into one batch.

        Args:
            samples: R data samples with tokenised instructions and ``image_index``.
            device: Where the tensors go.
            per_id: Include the responses (training) and find this id, the model's ``<PER>``, in
                them; None stops before the responses (generation).

        Raises:
            ValueError: If a response that the decoder needs holds no ``<PER>``.
        """
        instructions = [s.instruction for s in samples]
        lengths = [i.prompt_length if per_id is None else len(i.input_ids) for i in instructions]
        rows, most = len(samples), max(lengths)
        phrases = max(1, max(len(i.phrases) for i in instructions))
        # Filled in numpy, where a small copy costs a tenth of torch's.
        ids = np.zeros((rows, most), dtype=np.int64)
        mask = np.arange(most) < np.array(lengths)[:, None]
        phrase_index = np.full((rows, most), -1)
        labels = np.full((rows, most), -100)
        counts = np.array([len(i.phrases) for i in instructions])
        phrase_mask = np.arange(phrases) < counts[:, None]
        is_thing = np.zeros((rows, phrases), dtype=bool)
        for r, (instruction, n) in enumerate(zip(instructions, lengths, strict=True)):
            ids[r, :n] = instruction.input_ids[:n]
            phrase_index[r, :n] = instruction.phrase_index[:n]
            labels[r, :n] = instruction.labels[:n]
            is_thing[r, :counts[r]] = instruction.is_thing
        # On the host: a look at the device's ids would wait for the device.
        is_per = np.zeros_like(mask) if per_id is None else ids == per_id
        needs_decoder = np.array([i.needs_decoder for i in instructions])
        if per_id is not None:
            _check_per(samples, needs_decoder & ~is_per.any(1), per_id)
        column = {
            'image_start': np.array([i.image_start for i in instructions]),
            'image_index': np.array([int(s.image_index) for s in samples]),
            'is_word': np.array([i.kind == 'word' for i in instructions]),
            'use_stuff': np.array([i.use_stuff_queries for i in instructions]),
            'needs_decoder': needs_decoder,
            'per_position': is_per.argmax(1),
        }
        arrays = dict(ids=ids, mask=mask, phrase_index=phrase_index, labels=labels,
                      phrase_mask=phrase_mask, is_thing=is_thing, **column)
        return cls(**{name: torch.from_numpy(array).to(device, non_blocking=True)
                      for name, array in arrays.items()},
                   host=HostRows(
                       RowLayout.find(ids, lengths, column['image_start'], column['image_index']),
                       column['image_index'].tolist(), column['use_stuff'].tolist(),
                       np.flatnonzero(np.pad(labels[:, 1:], ((0, 0), (0, 1)),
                                             constant_values=-100) != -100),
                       column['is_word'], is_thing))

    @property
    def on_host(self) -> HostRows:
        """What the host knows; where it knows nothing, the device is asked."""
        return self.host or HostRows(
            None, self.image_index.tolist(), self.use_stuff.tolist(), None,
            self.is_word.cpu().numpy(), self.is_thing.cpu().numpy())

    @property
    def any_stuff(self) -> bool:
        """Whether any row asks for the stuff queries."""
        return any(self.host.use_stuff) if self.host else bool(self.use_stuff.any())

    def per_image(self, num_images: int, copies: Sequence[int] = ()) -> QueriesPerImage:
        """Pack the queries by image, those of ``copies`` of rows behind those of all rows."""
        known = self.host.image_index if self.host else self.image_index.tolist()
        image_index = self.image_index
        if copies:
            again = torch.tensor(copies).to(image_index.device, non_blocking=True)
            image_index = torch.cat([image_index, image_index[again]])
        return QueriesPerImage(image_index, num_images, [*known, *(known[r] for r in copies)])

    def select(self, rows: list[int]) -> InstructionBatch:
        """Select rows by index."""
        index = torch.tensor(rows).to(self.ids.device, non_blocking=True)
        return InstructionBatch(
            **{name: value[index] for name, value in vars(self).items() if name != 'host'},
            host=self.host and self.host.select(rows))

    def behind(self, length: int) -> InstructionBatch:
        """Cut off the first ``length`` positions, which hold the image and no phrase."""
        return replace(
            self, ids=self.ids[:, length:], mask=self.mask[:, length:],
            phrase_index=self.phrase_index[:, length:], labels=self.labels[:, length:],
            image_start=torch.full_like(self.image_start, -1),
            per_position=(self.per_position - length).clamp(min=0),
            host=self.host and replace(self.host, layout=None, supervised=None))


def _check_per(samples: list[PerceptionDataSample], lacks: np.ndarray, per_id: int) -> None:
    """Refuse rows (R,) bool without the token whose state the decoder reads."""
    if lacks.any():
        sample = samples[int(lacks.argmax())]
        instruction = sample.instruction
        where = f'Task {instruction.task}, image {sample.get("img_path") or sample.get("img_id")}: '
        if len(instruction.input_ids) == instruction.prompt_length:
            raise ValueError(f'{where}a sample without a response can only be predicted')
        raise ValueError(
            f'{where}the response holds no <PER>, which is id {per_id} for the model. The '
            "tokenizer of the data pipeline differs from the model's: give both the same")
