# Copyright (c) mvp_mm authors. All rights reserved.
"""From labels of one's own to files, a contact sheet and a config that trains."""
from __future__ import annotations

from pathlib import Path

from PIL import Image

from mvp_mm.cli.command import reported
from mvp_mm.engine.config_loading import load_config
from mvp_mm.own_data import read_labels, split_dataset, write_dataset
from mvp_mm.own_data.config_file import config_text, find_base
from mvp_mm.own_data.sheet import draw_sheet
from mvp_mm.own_data.tokenizer import find_tokenizer
from mvp_mm.own_data.write import check_free


def prepare(labels: Path, out: Path, images: Path | None, name: str | None, base: str,
            val_share: float | None, seed: int) -> None:
    """Read, check, split, write and draw; say what was found and what to do next.

    Args:
        labels: A file or folder of labels.
        out: A new folder.
        images: Folder of the images, where the labels do not lie beside them.
        name: The format; None to recognise it.
        base: The config to inherit.
        val_share: Share of the images to validate on; None for the default.
        seed: Draws the split and the pictures.

    Raises:
        Failure: If labels are at fault or a file cannot be read or written.
    """
    with reported(OSError, ValueError):
        check_free(out)    # before labels are read, which may take long
        inherited = find_base(base)
        model = load_config(inherited).model
        dataset = read_labels(labels, images, name)
        split = split_dataset(dataset, val_share, seed)
        written = write_dataset(dataset, out)
        config = out / 'config.py'
        tokenizer, told = find_tokenizer(model, dataset, out)
        config.write_text(config_text(written, inherited, tokenizer), encoding='utf-8')
        Image.fromarray(draw_sheet(dataset, seed=seed)).save(out / 'sheet.png')
    print('\n'.join([*written.summary, split, told]))
    print(f'look at {out / "sheet.png"}, then: mvp-mm train {config}')
