# Copyright (c) mvp_mm authors. All rights reserved.
"""Draw what the model gets to see: samples with their targets and their full instruction.

Every picture comes out of the data pipeline of the config: the image as the network takes it,
the masks and boxes of each instruction, and the text that the LLM reads and learns to write,
decoded from its tokens, with every phrase on its own colour.

Example::

    python tools/analysis_tools/browse_dataset.py configs/mvplm/stage2.py --out work_dirs/browse
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.dataset import ConcatDataset
from PIL import Image
from tqdm import tqdm

from mvp_mm.datasets import BuildInstructions
from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.registry import DATASETS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.visualization import PerceptionVisualizer, contact_sheet, instruction_panel


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--mode', choices=('train', 'val', 'test'), default='train',
                        help='which data loaders of the config')
    parser.add_argument('--number', type=int, default=6, help='images of each data set')
    parser.add_argument('--per-image', type=int, default=3, help='instructions of each image')
    parser.add_argument('--columns', type=int, default=3, help='pictures side by side on a sheet')
    parser.add_argument('--seed', type=int, default=0, help='draws the images and every choice')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    return parser.parse_args()


def dataset_configs(loaders: Any) -> dict[str, dict]:
    """The data sets of one loader, or of several by name, each with a name of its own."""
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


def browse(cfg: dict, args: argparse.Namespace, folder: Path) -> int:
    """Draw samples of one data set and a sheet of them; returns the number of pictures."""
    dataset = DATASETS.build(cfg)
    dataset.full_init()
    tokenizer = next(t.tokenizer for t in dataset.pipeline.transforms
                     if isinstance(t, BuildInstructions))
    visualizer = PerceptionVisualizer(name=f'browse_{folder.name}')
    rng = np.random.default_rng(args.seed)
    pictures = []
    for index in tqdm(rng.permutation(len(dataset))[:args.number], desc=folder.name):
        # Every choice of the pipeline follows from the seed and the image.
        item = dataset.prepare_data(DrawnIndex(index, (args.seed, 0, int(index))))
        if item is None:
            print(f'{folder.name}: image {index} has no question, left out')
            continue
        inputs = item['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
        for number, sample in enumerate(item['data_samples'][:args.per_image]):
            drawn = picture(sample, np.ascontiguousarray(inputs), tokenizer, visualizer)
            name = f'{Path(sample.img_path).stem}_{number}_{sample.instruction.task}.png'
            Image.fromarray(drawn).save(folder / name)
            pictures.append(drawn)
    if pictures:
        Image.fromarray(contact_sheet(pictures, args.columns)).save(folder / 'sheet.png')
    return len(pictures)


def main() -> None:
    """Browse every data set of a config."""
    args = parse_args()
    with config_errors_in_one_line('browse_dataset'):
        cfg = load_config(args.config, args.cfg_options)
        # No weights are looked at: stage 2 can be browsed before stage 1 has run.
        cfg.pop('load_from', None)
        check_config(cfg, modes=(args.mode,))
    torch.manual_seed(args.seed)
    for name, dataset in dataset_configs(cfg[f'{args.mode}_dataloader']).items():
        folder = args.out / f'{name}_{dataset["type"]}'
        folder.mkdir(parents=True, exist_ok=True)
        print(f'{browse(dataset, args, folder)} pictures in {folder}')


if __name__ == '__main__':
    main()
