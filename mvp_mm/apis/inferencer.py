# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions about images in a few lines."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import nn

from mvp_mm.apis.stored_config import config_of, read_checkpoint
from mvp_mm.engine.config_loading import load_config
from mvp_mm.registry import MODELS, TASKS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation, PerceptionDataSample, Request
from mvp_mm.tasks.base import BaseTask
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.masks import encode_masks
from mvp_mm.visualization import PerceptionVisualizer

# Lists of words are answered by many weak guesses, a sentence by what is meant.
_WORD_SCORE_THR = 0.3
_LOADERS = ('LoadImage', 'LoadImageFromFile', 'LoadImageFromNDArray')


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'No such image file: {path}')
    try:
        image = mmcv.imread(path)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'Cannot read {path} as an image')
    return image


def build_task(config: Config, name: str) -> BaseTask:
    """Build one of the tasks that a config offers for inference.

    Args:
        config: With ``inferencer.tasks``, a dict of task configs by name.
        name: Name of the task.

    Raises:
        ValueError: If the config offers no such task.
    """
    offered = (config.get('inferencer') or {}).get('tasks')
    if not offered:
        raise ValueError('The config has no inferencer.tasks')
    if name not in offered:
        raise ValueError(f'Unknown task {name!r}, choose from {", ".join(sorted(offered))}')
    init_default_scope(config.get('default_scope', 'mvp_mm'))
    return TASKS.build(offered[name])


class PerceptionInferencer:
    """Asks a trained model about images.

    Args:
        config: Config, or path of one; None for the one stored in the weights. Its
            ``inferencer`` has ``pipeline``, transforms from an image and ``requests`` to packed
            inputs with tokenised instructions, and ``tasks``, task configs by name.
        weights: Checkpoint whose keys fit the model exactly.
        device: Device of the model; None for CUDA where there is a device, else the CPU.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the weights cannot be read or do not fit, or the config lacks
            ``inferencer``.

    Example:
        >>> inferencer = PerceptionInferencer(None, 'model.pth')
        >>> inferencer('cat.jpg', 'referring_segmentation', text='the cat on the left')
    """

    def __init__(self, config: str | Path | Config | None, weights: str | Path,
                 device: str | torch.device | None = None) -> None:
        checkpoint = read_checkpoint(weights)
        if config is None:
            config = config_of(checkpoint, weights)
        elif not isinstance(config, Config) and not Path(config).is_file():
            raise FileNotFoundError(f'No such config file: {config}')
        config = load_config(config)
        if not config.get('inferencer'):
            raise ValueError('The config has no inferencer')
        init_default_scope(config.get('default_scope', 'mvp_mm'))
        self.config = config
        self.device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        self.pipeline = _build_pipeline(config.inferencer.pipeline)
        self.model = _load(MODELS.build(config.model), checkpoint['state_dict'], weights)
        self.model.to(self.device).eval()
        self.visualizer = PerceptionVisualizer(name='perception_inferencer')

    def __call__(self, images: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
                 task: str, words: list[str] | None = None, text: str | None = None,
                 thinking: bool = True, score_thr: float | None = None,
                 out_dir: str | Path | None = None) -> list[dict[str, Any]]:
        """Ask one question about each image.

        Args:
            images: One or more paths or (h, w, 3) uint8 BGR arrays.
            task: Name of a task in ``inferencer.tasks``.
            words: Phrases of a word-list task.
            text: Sentence of a sentence task.
            thinking: Let the LLM write its caption before it perceives.
            score_thr: Instances with lower scores are left out; None for 0.3 with word lists
                and what the task decides with sentences.
            out_dir: Write ``<stem>_<task>.png`` and ``.json`` there.

        Returns:
            One dict an image: ``image``, ``task``, ``size`` [h, w], ``caption``, ``instances``
            (label, score, bbox xyxy in pixels of the image, segmentation as COCO RLE), and
            ``panoptic`` or ``semantic`` segments with RLE where the task makes them.

        Raises:
            FileNotFoundError: If an image file is missing.
            ValueError: If the task is unknown, gets the wrong words, or an image is unreadable.
        """
        if isinstance(images, (str, Path, np.ndarray)):
            images = [images]
        asker = build_task(self.config, task)
        results = []
        for index, image in enumerate(images):
            request = asker.ask(words=words, text=text)
            request.task = asker
            named = not isinstance(image, np.ndarray)
            path = str(image) if named else f'image_{index}'
            pixels = read_image(image) if named else image
            sample = self._perceive(pixels, path, request, thinking)
            thr = score_thr
            if thr is None:
                thr = _WORD_SCORE_THR if asker.kind == 'word' else 0.
            result = dict(image=path, task=task, **describe(sample, pixels.shape[:2], thr))
            if out_dir is not None:
                self._write(Path(out_dir), result, pixels, sample, thr)
            results.append(result)
        return results

    def _perceive(self, image: np.ndarray, path: str, request: Request,
                  thinking: bool) -> PerceptionDataSample:
        """Run the pipeline and the model on one image."""
        shape = image.shape[:2]
        packed = self.pipeline(dict(
            img=image.copy(), img_path=path, img_id=0, img_shape=shape, ori_shape=shape,
            height=shape[0], width=shape[1], requests=[request],
            # Nothing is known about the image: no objects, in the form the transforms expect.
            annotation=ImageAnnotation(source=path), gt_bboxes=HorizontalBoxes(torch.zeros(0, 4)),
            gt_bboxes_labels=np.zeros(0, dtype=np.int64), num_objects=0))
        batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
        before, self.model.thinking = self.model.thinking, thinking
        try:
            with torch.no_grad():
                sample, = self.model.test_step(batch)
        finally:
            self.model.thinking = before
        return sample

    def _write(self, folder: Path, result: dict[str, Any], image: np.ndarray,
               sample: PerceptionDataSample, thr: float) -> None:
        stem = f"{Path(result['image']).stem}_{result['task']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{stem}.json').write_text(json.dumps(result, indent=2))
        kept = sample.clone()
        if 'pred_instances' in kept:
            found = kept.pred_instances
            kept.pred_instances = found[found.scores >= thr]
        self.visualizer.add_datasample(
            stem, np.ascontiguousarray(image[..., ::-1]), kept, draw_gt=False, pred_score_thr=thr,
            out_file=folder / f'{stem}.png')


def describe(sample: PerceptionDataSample, size: tuple[int, int],
             score_thr: float = 0.) -> dict[str, Any]:
    """A sample's predictions as JSON can hold them.

    Args:
        sample: With predictions.
        size: (h, w) of the original image.
        score_thr: Instances with lower scores are left out.

    Returns:
        ``size``, ``caption``, ``instances`` and, where predicted, ``panoptic``, ``semantic``.
    """
    phrases = sample.instruction.phrases
    result: dict[str, Any] = dict(
        size=list(size), caption=sample.get('pred_caption', ''), instances=[])
    if 'pred_instances' in sample:
        found = sample.pred_instances
        found = found[found.scores >= score_thr]
        rles = _json_rles(found.masks) if 'masks' in found else [None] * len(found)
        for box, score, label, rle in zip(
                found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist(), rles,
                strict=True):
            instance = dict(label=phrases[label], score=round(score, 4),
                            bbox=[round(side, 2) for side in box])
            if rle is not None:
                instance['segmentation'] = rle
            result['instances'].append(instance)
    if 'pred_panoptic_seg' in sample:
        segments = sample.pred_panoptic_seg['segments_info']
        rles = _region_rles(sample.pred_panoptic_seg['panoptic'], [s['id'] for s in segments])
        result['panoptic'] = [
            dict(segment, label=phrases[segment['label']], score=round(segment['score'], 4),
                 segmentation=rle) for segment, rle in zip(segments, rles, strict=True)]
    if 'pred_sem_seg' in sample:
        labels = np.unique(to_numpy(sample.pred_sem_seg)).tolist()
        rles = _region_rles(sample.pred_sem_seg, labels)
        result['semantic'] = [dict(label=phrases[label], segmentation=rle)
                              for label, rle in zip(labels, rles, strict=True)]
    return result


def _json_rles(masks: Any) -> list[dict[str, Any]]:
    """(n, h, w) masks as COCO RLE dicts with text counts."""
    return [dict(size=list(rle['size']), counts=rle['counts'].decode())
            for rle in encode_masks(masks)]


def _region_rles(label_map: Any, values: Sequence[int]) -> list[dict[str, Any]]:
    """The regions of a (h, w) map that have the given values."""
    values = np.asarray(list(values), dtype=np.int64)
    return _json_rles(to_numpy(label_map)[None] == values[:, None, None])


def _build_pipeline(transforms: Sequence[dict[str, Any]]) -> Compose:
    """The config's pipeline without its loading step, since the image is already read."""
    built = [TRANSFORMS.build(transform) for transform in transforms]
    return Compose([step for step in built if type(step).__name__ not in _LOADERS])


def _load(model: nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> nn.Module:
    """Load weights that must fit exactly.

    Raises:
        ValueError: With the first keys that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    problems = {
        'missing': sorted(own.keys() - state.keys()),
        'unexpected': sorted(state.keys() - own.keys()),
        'of another shape': sorted(
            key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
    }
    found = '; '.join(f'{len(keys)} {name} ({", ".join(keys[:3])}{", …" if len(keys) > 3 else ""})'
                      for name, keys in problems.items() if keys)
    if found:
        raise ValueError(f'The weights in {path} do not fit the model: {found}')
    model.load_state_dict(state)
    return model
