# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions about images in a few lines."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mvp_mm.apis.answers import describe, keep_scores, reserve_name
from mvp_mm.apis.images import check_path, read_image, to_bgr
from mvp_mm.apis.perceiver import Perceiver
from mvp_mm.apis.published import load_published
from mvp_mm.apis.questions import Question, check_question, offered_tasks
from mvp_mm.apis.stored_config import config_of
from mvp_mm.apis.task_choice import choose_task
from mvp_mm.datasets.vocabulary.known_words import known_things
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.replaced_weights import build_model
from mvp_mm.models.acceleration import accelerate_answers
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.checkpoint_io import read_checkpoint
from mvp_mm.utils.named_weights import find_weights
from mvp_mm.visualization import PerceptionVisualizer

Picture = str | Path | np.ndarray | Image.Image


class PerceptionInferencer:
    """Holds a model with its pipeline and its tasks; what :class:`~mvp_mm.apis.MVP` stands on.

    Ask through ``MVP``. A call of this class answers one named task about images in turn and gives
    plain dicts, without the conveniences of ``MVP``: no batches, no reuse of an encoded image, no
    removal of repeated answers unless asked for. Threads may share an inferencer: a call changes
    none of its state.

    Args:
        config: Config, or path of one; None for the one stored in the weights. Its
            ``inferencer`` has ``pipeline``, transforms from an image and ``requests`` to packed
            inputs with tokenised instructions, and ``tasks``, task configs by name.
        weights: Checkpoint whose keys fit the model exactly, a folder of
            :func:`~mvp_mm.apis.published.save_published`, or a name of the model zoo.
        device: Device of the model; None for CUDA where there is a device, else the CPU.
        dtype: Precision of matrix products (autocast): ``'bfloat16'`` or ``'float16'``; None for
            float32.
        acceleration: Arguments of :func:`~mvp_mm.models.acceleration.accelerate_answers`, as in
            ``test_cfg.acceleration``: ``weights``, None or the same as ``dtype``, ``graphs`` and
            ``fold``.
            True is ``weights`` of ``dtype`` and graphs; None and False run the model as it is.

    Attributes:
        accelerated: Whether the model has been accelerated; its weights are then not to be saved.
        trained_classes: Names of the classes that the checkpoint says it was trained on, and
            whether each is a thing.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the weights cannot be read or do not fit, the config lacks
            ``inferencer``, or the acceleration is unknown or does not fit.

    Example:
        >>> inferencer = PerceptionInferencer(None, 'model.pth')
        >>> inferencer('cat.jpg', 'referring_segmentation', text='the cat on the left')
    """

    def __init__(self, config: str | Path | Config | None, weights: str | Path,
                 device: str | torch.device | None = None,
                 dtype: str | torch.dtype | None = None,
                 acceleration: bool | Mapping[str, Any] | None = None) -> None:
        precision = as_dtype(dtype)
        settings = acceleration_settings(acceleration, precision)
        weights = find_weights(weights)
        if weights.is_dir():
            stored, state, classes = load_published(weights)
        else:
            checkpoint = read_checkpoint(weights)
            state, classes = checkpoint['state_dict'], _trained_classes(checkpoint['meta'])
            stored = None if config is not None else config_of(checkpoint, weights)
        if config is None:
            config = stored
        elif not isinstance(config, Config) and not Path(config).is_file():
            raise FileNotFoundError(f'No such config file: {config}')
        self.config: Config = load_config(config)
        if not self.config.get('inferencer'):
            raise ValueError('The config has no inferencer')
        init_default_scope(self.config.get('default_scope', 'mvp_mm'))
        self.device = _device(device)
        self.model = load_whole(build_model(self.config.model, state), state, weights)
        self.model.to(self.device).eval()
        self.accelerated = settings is not None
        if settings is not None:
            accelerate_answers(self.model, **settings)
        self.perceiver = Perceiver(self.model, self.config.inferencer.pipeline, precision)
        self.trained_classes = classes

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
        question = self.question(task, words, text, stuff=stuff, thinking=thinking,
                                 threshold=score_thr, nms_iou=nms_iou)
        if out_dir is not None:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
        results = []
        for name, image in _listed(images):
            pixels = image if isinstance(image, np.ndarray) else read_image(image)
            encoded = self.perceiver.encode([self.perceiver.prepare(pixels, name)])
            (sample, ), = self.perceiver.perceive(
                encoded, [[question.request()]], question.thinking, question.answering)
            keep_scores(sample, question.threshold)
            result = dict(image=name, task=task, **describe(sample, pixels.shape[:2]))
            if out_dir is not None:
                self._write(Path(out_dir), result, pixels, sample)
            results.append(result)
        return results

    def question(self, task: str, words: Sequence[str] | None = None, text: str | None = None,
                 **options: Any) -> Question:
        """Check a question; see :func:`~mvp_mm.apis.questions.check_question`."""
        return check_question(self.config, self.model.answering, self.trained_classes, task, words,
                              text, **options)

    def choose_question(self, words: Sequence[str] | None = None, text: str | None = None,
                        stuff: Sequence[str] | None = None, task: str | None = None,
                        **options: Any) -> Question:
        """Check a question, whose task is chosen by its words or its text where none is named.

        Raises:
            ValueError: If an argument is wrong.
        """
        if task is not None:
            return self.question(task, words, text, stuff=stuff, **options)
        known = {**known_things(), **self.trained_classes}
        choice = choose_task(offered_tasks(self.config), words, text, stuff, known)
        question = self.question(choice.task, choice.words, choice.text, stuff=stuff, **options)
        return replace(question, reason=choice.reason)

    @cached_property
    def visualizer(self) -> PerceptionVisualizer:
        """Draws the answers that are written to a folder."""
        return PerceptionVisualizer(name='perception_inferencer')

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


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A precision for autocast; None where there is none to set.

    Raises:
        ValueError: If it is no such precision.
    """
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype in (None, torch.float32):
        return None
    if dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"dtype must be 'float32', 'bfloat16' or 'float16', got {dtype!r}")
    return dtype


def acceleration_settings(acceleration: bool | Mapping[str, Any] | None,
                          dtype: torch.dtype | None) -> dict[str, Any] | None:
    """Arguments of ``accelerate_answers``; None where nothing is to be accelerated.

    Raises:
        ValueError: If there is no such argument, or ``weights`` is another precision than the
            model's.
    """
    if acceleration is None or acceleration is False:
        return None
    if acceleration is True:
        return dict(weights=dtype)
    if not isinstance(acceleration, Mapping):
        raise ValueError('acceleration must be True, False or a dict of weights, graphs and '
                         f'fold, got {acceleration!r}')
    unknown = sorted(set(acceleration) - {'weights', 'graphs', 'fold'})
    if unknown:
        raise ValueError(f'acceleration has weights, graphs and fold, got {", ".join(unknown)}')
    weights = as_dtype(acceleration.get('weights'))
    if weights not in (None, dtype):
        raise ValueError(f'acceleration: weights={acceleration["weights"]!r} must be None or the '
                         'same as dtype')
    return dict(acceleration, weights=weights)


def _listed(images: Picture | Iterable[Picture]) -> Iterator[tuple[str, Path | np.ndarray]]:
    """Names and images, checked as far as that takes no reading; a list before the first one."""
    if not isinstance(images, (list, tuple, Iterator)):
        images = [cast(Picture, images)]
    pairs = (_checked(image, index) for index, image in enumerate(images))
    return pairs if isinstance(images, Iterator) else iter(list(pairs))


def _checked(image: Picture, index: int) -> tuple[str, Path | np.ndarray]:
    if isinstance(image, (str, Path)):
        return str(image), check_path(image)
    return f'image_{index}', to_bgr(image, f'image_{index}')


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
