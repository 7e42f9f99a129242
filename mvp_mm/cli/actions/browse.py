# Copyright (c) mvp_mm authors. All rights reserved.
"""Pictures of what the data pipeline of a config hands to the model."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import ConcatDataset
from PIL import Image
from tqdm import tqdm

from mvp_mm.cli.command import reported
from mvp_mm.datasets import BuildInstructions
from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config
from mvp_mm.registry import DATASETS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.visualization import PerceptionVisualizer, contact_sheet, instruction_panel


def dataset_configs(loaders: Any) -> dict[str, dict]:
    """The datasets of one loader, or of several by name, each with a name of its own."""
    if 'dataset' not in loaders:
        return {f'{name}-{inner}' if inner != '0' else name: cfg
                for name, loader in loaders.items()
                for inner, cfg in dataset_configs(loader).items()}
    dataset = loaders['dataset']
    members = dataset['datasets'] if dataset['type'] == ConcatDataset.__name__ else [dataset]
    return {str(number): cfg for number, cfg in enumerate(members)}


def picture(sample: PerceptionDataSample, inputs: np.ndarray, tokenizer: Any,
            visualizer: PerceptionVisualizer) -> np.ndarray:
    """One instruction: the network's image with its targets, the text below.

    Args:
        sample: A packed sample.
        inputs: (H, W, 3) uint8 RGB, the network's image.
        tokenizer: The one that made its tokens.
        visualizer: Draws the targets.
    """
    truth = sample.gt_instances
    instruction = sample.instruction
    # A sentence is too long for a tag; it stands below the picture.
    phrases = ['target'] if instruction.kind == 'sentence' else instruction.phrases
    drawn = visualizer.draw_objects(
        inputs, truth.bboxes, truth.get('masks'), truth.labels, None, phrases)
    return np.concatenate((drawn, instruction_panel(instruction, tokenizer, drawn.shape[1])))


def draw(cfg: dict, folder: Path, number: int, per_image: int, columns: int, seed: int) -> int:
    """Draw samples of one dataset and a sheet of them; returns the number of pictures."""
    dataset = DATASETS.build(cfg)
    dataset.full_init()
    tokenizer = next(t.tokenizer for t in dataset.pipeline.transforms
                     if isinstance(t, BuildInstructions))
    visualizer = PerceptionVisualizer(name=f'browse_{folder.name}')
    rng = np.random.default_rng(seed)
    pictures = []
    for index in tqdm(rng.permutation(len(dataset))[:number], desc=folder.name):
        # Every choice of the pipeline follows from the seed and the image.
        item = dataset.prepare_data(DrawnIndex(index, (seed, 0, int(index))))
        if item is None:
            print(f'{folder.name}: image {index} has no question, left out')
            continue
        inputs = item['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
        for place, sample in enumerate(item['data_samples'][:per_image]):
            drawn = picture(sample, np.ascontiguousarray(inputs), tokenizer, visualizer)
            name = f'{Path(sample.img_path).stem}_{place}_{sample.instruction.task}.png'
            Image.fromarray(drawn).save(folder / name)
            pictures.append(drawn)
    if pictures:
        Image.fromarray(contact_sheet(pictures, columns)).save(folder / 'sheet.png')
    return len(pictures)


def browse_datasets(config: str, out: Path, mode: str, cfg_options: dict[str, Any] | None,
                    seed: int, **counts: int) -> None:
    """Draw samples of every dataset of a config.

    Args:
        config: Config file, or the name of a shipped one.
        out: Folder for the pictures; each dataset gets a subfolder.
        mode: ``'train'``, ``'val'`` or ``'test'``: which data loaders.
        cfg_options: Settings to override.
        seed: Draws the images and every choice.
        counts: ``number`` of images, instructions ``per_image`` and ``columns`` of the sheet.

    Raises:
        Failure: If the config cannot be run.
    """
    with reported(ConfigError):
        cfg = load_config(config, cfg_options)
        # No weights are looked at: stage 2 can be browsed before stage 1 has run.
        cfg.pop('load_from', None)
        check_config(cfg, modes=(mode,))
    torch.manual_seed(seed)
    for name, dataset in dataset_configs(cfg[f'{mode}_dataloader']).items():
        folder = out / f'{name}_{dataset["type"]}'
        folder.mkdir(parents=True, exist_ok=True)
        print(f'{draw(dataset, folder, seed=seed, **counts)} pictures in {folder}')
