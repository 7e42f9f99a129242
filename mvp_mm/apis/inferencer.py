# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions about images in a few lines."""
from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mvp_mm.apis.answers import describe, keep_scores, reserve_name
from mvp_mm.apis.images import check_path, read_image, to_bgr
from mvp_mm.apis.published import load_published
from mvp_mm.apis.stored_config import config_of
from mvp_mm.datasets.vocabulary.known_words import known_things
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.engine.config_loading import load_config
from mvp_mm.registry import MODELS, TASKS, TRANSFORMS
from mvp_mm.structures import Answering, ImageAnnotation, PerceptionDataSample, Request
from mvp_mm.tasks import BaseTask, WordTask
from mvp_mm.utils.checkpoint_io import read_checkpoint
from mvp_mm.visualization import PerceptionVisualizer

# Lists of words are answered by many weak guesses, a sentence by what is meant.
_WORD_SCORE_THR = 0.3
_LOADERS = ('LoadImage', 'LoadImageFromFile', 'LoadImageFromNDArray')
Picture = str | Path | np.ndarray | Image.Image


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
        near = get_close_matches(str(name), list(offered), n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise ValueError(f'Unknown task {name!r}, {hint}choose from {", ".join(sorted(offered))}')
    init_default_scope(config.get('default_scope', 'mvp_mm'))
    return TASKS.build(offered[name])


class PerceptionInferencer:
    """Asks a trained model about images.

    One inferencer may be shared by threads: a call changes none of its state.

    Args:
        config: Config, or path of one; None for the one stored in the weights. Its
            ``inferencer`` has ``pipeline``, transforms from an image and ``requests`` to packed
            inputs with tokenised instructions, and ``tasks``, task configs by name.
        weights: Checkpoint whose keys fit the model exactly, or a folder of
            :func:`~mvp_mm.apis.published.save_published`.
        device: Device of the model; None for CUDA where there is a device, else the CPU.

    Attributes:
        trained_classes: Names of the classes that the checkpoint says it was trained on, and
            whether each is a thing.

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
        if Path(weights).is_dir():
            (stored, state), meta = load_published(weights), {}
        else:
            checkpoint = read_checkpoint(weights)
            state, meta = checkpoint['state_dict'], checkpoint['meta']
            stored = None if config is not None else config_of(checkpoint, weights)
        if config is None:
            config = stored
        elif not isinstance(config, Config) and not Path(config).is_file():
            raise FileNotFoundError(f'No such config file: {config}')
        config = load_config(config)
        if not config.get('inferencer'):
            raise ValueError('The config has no inferencer')
        init_default_scope(config.get('default_scope', 'mvp_mm'))
        self.config = config
        self.device = _device(device)
        self.pipeline = _build_pipeline(config.inferencer.pipeline)
        self.model = load_whole(MODELS.build(config.model), state, weights)
        self.model.to(self.device).eval()
        self.trained_classes = _trained_classes(meta)
        self.visualizer = PerceptionVisualizer(name='perception_inferencer')

    def __call__(self, images: Picture | Iterable[Picture], task: str,
                 words: Sequence[str] | None = None, text: str | None = None, *,
                 stuff: Sequence[str] | None = None, thinking: bool | None = None,
                 score_thr: float | None = None, nms_iou: float | None = None,
                 out_dir: str | Path | None = None) -> list[dict[str, Any]]:
        """Ask one question about each image.

        Args:
            images: One image, or a list or iterator of them: paths, PIL images, or uint8 arrays
                (h, w, 3) in BGR order; :func:`~mvp_mm.apis.images.to_bgr` has the rule.
            task: Name of a task in ``inferencer.tasks``.
            words: Phrases of a word-list task.
            text: Sentence of a sentence task.
            stuff: Which of the words are stuff (grass, sky), the others being things. None takes
                what the checkpoint's classes and the known class lists say; a word that they do
                not know is tried as a thing and as stuff.
            thinking: Let the LLM write its caption before it perceives, which takes most of the
                time; None for the config's ``model.thinking``.
            score_thr: Instances with lower scores are left out; None for 0.3 with word lists
                and what the task decides with sentences.
            nms_iou: Box IoU above which repeated answers are removed; None for the config's
                ``model.answering``.
            out_dir: Write ``<stem>_<task>.png`` and ``.json`` there, with a number behind the
                name where it is taken: no answer is overwritten.

        Returns:
            One dict per image: ``image``, ``task``, ``size`` [h, w], ``caption``, ``instances``
            (label, score, bbox xyxy in pixels of the image, segmentation as COCO RLE),
            ``panoptic`` or ``semantic`` segments with RLE where the task makes them, and
            ``files``, the paths written.

        Raises:
            FileNotFoundError: If an image file is missing.
            ValueError: If an argument is wrong or an image unreadable. What can be known at the
                start is refused before any image is asked about.
        """
        asker = build_task(self.config, task)
        self._ask(asker, words, text, stuff)
        thinking = _check_thinking(thinking, asker)
        threshold = _check_score_thr(score_thr, asker)
        answering = _merge(self.model.answering, threshold, nms_iou)
        if out_dir is not None:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
        results = []
        for name, image in _listed(images):
            pixels = image if isinstance(image, np.ndarray) else read_image(image)
            request = self._ask(asker, words, text, stuff)
            sample = self._perceive(pixels, name, request, thinking, answering)
            keep_scores(sample, threshold)
            result = dict(image=name, task=task, **describe(sample, pixels.shape[:2]))
            if out_dir is not None:
                self._write(Path(out_dir), result, pixels, sample)
            results.append(result)
        return results

    def _ask(self, asker: BaseTask, words: Sequence[str] | None, text: str | None,
             stuff: Sequence[str] | None) -> Request:
        """Make the request of one image."""
        extra = {}
        if isinstance(asker, WordTask):
            extra = dict(stuff=stuff, known={**known_things(), **self.trained_classes})
        elif stuff is not None:
            raise ValueError(f'Task {asker.name} takes no stuff names')
        request = asker.ask(words=words, text=text, **extra)
        request.task = asker
        return request

    def _perceive(self, image: np.ndarray, name: str, request: Request, thinking: bool | None,
                  answering: Answering) -> PerceptionDataSample:
        """Run the pipeline and the model on one image."""
        shape = image.shape[:2]
        try:
            packed = self.pipeline(dict(
                img=image.copy(), img_path=name, img_id=0, img_shape=shape, ori_shape=shape,
                height=shape[0], width=shape[1], requests=[request],
                # Nothing is known about the image: no objects, as the transforms expect it.
                annotation=ImageAnnotation(source=name),
                gt_bboxes=HorizontalBoxes(torch.zeros(0, 4)),
                gt_bboxes_labels=np.zeros(0, dtype=np.int64), num_objects=0))
        except cv2.error as error:
            raise ValueError(f'{name}: an image of {shape[1]} x {shape[0]} pixels cannot be '
                             f'resized: {error.err or error}') from error
        data = self.model.data_preprocessor(
            dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]), False)
        sample, = self.model.predict(**data, thinking=thinking, answering=answering)
        return sample

    def _write(self, folder: Path, result: dict[str, Any], image: np.ndarray,
               sample: PerceptionDataSample) -> None:
        """Write an answer as JSON and as a picture; ``result`` gets their paths."""
        name = reserve_name(folder, f"{Path(result['image']).stem}_{result['task']}")
        paths = {kind: folder / f'{name}.{kind}' for kind in ('png', 'json')}
        result['files'] = {kind: str(path) for kind, path in paths.items()}
        rgb = np.ascontiguousarray(image[..., ::-1])
        picture = self.visualizer.draw(rgb, sample, draw_gt=False, pred_score_thr=0.)
        Image.fromarray(picture).save(paths['png'])
        paths['json'].write_text(json.dumps(result, indent=2), encoding='utf-8')


def _device(device: str | torch.device | None) -> torch.device:
    """A device that can be used.

    Raises:
        ValueError: If it cannot.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f'Device {device!r} cannot be used: {error}') from error
    return torch.device(device)


def _listed(images: Picture | Iterable[Picture]) -> Iterator[tuple[str, Path | np.ndarray]]:
    """Names and images, checked as far as that takes no reading; a list before the first one."""
    if not isinstance(images, (list, tuple, Iterator)):
        images = [images]
    pairs = (_checked(image, index) for index, image in enumerate(images))
    return pairs if isinstance(images, Iterator) else iter(list(pairs))


def _checked(image: Picture, index: int) -> tuple[str, Path | np.ndarray]:
    if isinstance(image, (str, Path)):
        return str(image), check_path(image)
    return f'image_{index}', to_bgr(image, f'image_{index}')


def _check_thinking(thinking: bool | None, asker: BaseTask) -> bool | None:
    if thinking is not None and not isinstance(thinking, (bool, np.bool_)):
        raise ValueError(f'thinking must be True, False or None, got {thinking!r}')
    if asker.kind != 'caption':
        return thinking
    if thinking is False:
        raise ValueError(f'Task {asker.name} is answered by what the LLM writes: it cannot be '
                         'asked without thinking')
    return True


def _check_score_thr(score_thr: float | None, asker: BaseTask) -> float:
    """The least score of an instance."""
    if score_thr is None:
        return _WORD_SCORE_THR if asker.kind == 'word' else 0.
    if not (isinstance(score_thr, Real) and not isinstance(score_thr, bool)
            and math.isfinite(score_thr) and 0 <= score_thr <= 1):
        raise ValueError(f'score_thr must be a number from 0 to 1, got {score_thr!r}')
    return float(score_thr)


def _merge(answering: Answering, least_score: float, nms_iou: float | None) -> Answering:
    """The model's options of decoding with those of one call."""
    changes = dict(least_score=least_score)
    return replace(answering, **changes, **({} if nms_iou is None else dict(nms_iou=nms_iou)))


def _trained_classes(meta: Mapping[str, Any]) -> dict[str, bool]:
    """The classes that a checkpoint names, and whether each is a thing."""
    described = meta.get('dataset_meta')
    described = described if isinstance(described, Mapping) else {}
    names, flags = (described.get(key) or () for key in ('classes', 'thing_flags'))
    if not isinstance(names, (list, tuple)) or not isinstance(flags, (list, tuple)):
        return {}
    if len(names) != len(flags) or not all(isinstance(name, str) for name in names):
        return {}
    return {' '.join(name.split()): bool(flag) for name, flag in zip(names, flags, strict=True)}


def _build_pipeline(transforms: Sequence[dict[str, Any]]) -> Compose:
    """The config's pipeline without its loading step, since the image is already read."""
    built = [TRANSFORMS.build(transform) for transform in transforms]
    return Compose([step for step in built if type(step).__name__ not in _LOADERS])
