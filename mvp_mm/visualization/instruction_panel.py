# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes what the LLM reads and learns to write, with its spans in colour."""
from __future__ import annotations

from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw

from mvp_mm.structures import Instruction
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer
from mvp_mm.visualization.palette import Color, color_of
from mvp_mm.visualization.text import font

_GAP = 8
_PLAIN: Color = (70, 70, 78)
_ANSWER: Color = (0, 96, 40)
Run = tuple[str, Color, Color | None]


def instruction_runs(instruction: Instruction, tokenizer: InstructionTokenizer) -> list[Run]:
    """Split the token sequence into stretches of equal role.

    The text is decoded from the tokens, so a phrase whose span is wrong looks wrong.

    Args:
        instruction: A tokenised instruction.
        tokenizer: The one that made its tokens.

    Returns:
        (text, ink, background) per stretch; phrases have their own background, the
        supervised response its own ink.
    """
    if instruction.parts:
        return [run for number, part in enumerate(instruction.parts, 1)
                for run in [(f' [part {number}] ', _PLAIN, None),
                            *instruction_runs(part.instruction, tokenizer)]]
    ids, phrase, labels = (
        instruction.input_ids, instruction.phrase_index, instruction.labels)
    start = instruction.image_start
    image = np.zeros(len(ids), dtype=bool)
    if start >= 0:
        image[start:start + tokenizer.num_visual_tokens] = True
    roles = [(bool(image[i]), int(phrase[i]), bool(labels[i] != -100)) for i in range(len(ids))]
    runs: list[Run] = []
    for (is_image, index, supervised), stretch in groupby(range(len(ids)), key=roles.__getitem__):
        positions = list(stretch)
        if is_image:
            runs.append((f'[image × {len(positions)}]', (255, 255, 255), (110, 110, 120)))
        elif index >= 0:
            runs.append((tokenizer.decode(ids[positions]), (0, 0, 0), _pale(color_of(index))))
        else:
            text = ''.join(_name(int(ids[i]), tokenizer) for i in positions)
            runs.append((text, _ANSWER if supervised else _PLAIN, None))
    return runs


def _name(token: int, tokenizer: InstructionTokenizer) -> str:
    if token == tokenizer.per_id:
        return f' {tokenizer.per_token}'
    if token == tokenizer.eos_id:
        return ' [end]'
    return tokenizer.decode([token])


def _pale(color: Color) -> Color:
    return tuple(round(255 - 0.45 * (255 - c)) for c in color)


def instruction_panel(instruction: Instruction, tokenizer: InstructionTokenizer, width: int,
                      size: int = 15) -> np.ndarray:
    """Write an instruction on white, phrases on coloured ground.

    Args:
        instruction: A tokenised instruction.
        tokenizer: The one that made its tokens.
        width: Width in pixels.
        size: Height of the text in pixels.

    Returns:
        (h, width, 3) uint8, as high as the text needs.
    """
    face = font(size)
    step = round(size * 1.5)
    placed: list[tuple[float, int, str, Color, Color | None]] = []
    x, row = float(_GAP), 0
    for text, ink, ground in instruction_runs(instruction, tokenizer):
        for piece in _pieces(text):
            if piece == '\n':
                x, row = float(_GAP), row + 1
                continue
            length = face.getlength(piece)
            if x + length > width - _GAP and x > _GAP:
                x, row = float(_GAP), row + 1
                piece = piece.lstrip()
                length = face.getlength(piece)
            placed.append((x, row, piece, ink, ground))
            x += length
    panel = Image.new('RGB', (width, 2 * _GAP + step * (row + 1)), (255, 255, 255))
    draw = ImageDraw.Draw(panel)
    for x, row, piece, ink, ground in placed:
        top = _GAP + row * step
        if ground is not None:
            draw.rectangle((x, top, x + face.getlength(piece), top + step - 3), fill=ground)
        draw.text((x, top), piece, font=face, fill=ink)
    return np.array(panel)


def _pieces(text: str) -> list[str]:
    """Words with the space before them, and line breaks."""
    pieces: list[str] = []
    for number, line in enumerate(text.split('\n')):
        if number:
            pieces.append('\n')
        words = line.split(' ')
        pieces += [word if k == 0 else f' {word}' for k, word in enumerate(words) if word or k]
    return [piece for piece in pieces if piece]
