# Copyright (c) mvp_mm authors. All rights reserved.
"""The front door: a model by one name, asked about any kind of image."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from tqdm import tqdm

from mvp_mm.apis.answer import Answer
from mvp_mm.apis.answer_making import make_answer
from mvp_mm.apis.hub import HubModel
from mvp_mm.apis.images import Channels
from mvp_mm.apis.inferencer import PerceptionInferencer
from mvp_mm.apis.many_images import Plan, answer_in_order, check_counts, make_plan
from mvp_mm.apis.onnx import OnnxModel
from mvp_mm.apis.perceiver import EncodedImages, PreparedImage
from mvp_mm.apis.questions import Question
from mvp_mm.apis.sources import ImageSource, is_one_image, list_sources
from mvp_mm.models.image_prefix import ImagePrefixes
from mvp_mm.tasks import PanopticTask

# Objects attract several queries each, which metrics tolerate and people do not.
NMS_IOU = 0.5


class MVP(HubModel, OnnxModel):
    """A trained model that answers questions about images.

    Threads may share it: a question changes none of its state.

    Args:
        source: A folder of :meth:`save_pretrained`, a checkpoint that stores its config, or the
            name of a model of the model zoo.
        device: Device of the model; None for CUDA where there is a device, else the CPU.
        config: Config, or path of one, for a checkpoint that stores none.
        dtype: Precision of matrix products: ``'float32'``, ``'bfloat16'``, ``'float16'``.
        acceleration: True to fold the encoder's batch norms, to hold encoder and LLM in ``dtype``
            and, on a GPU, to replay the model as CUDA graphs, for many questions; or a dict, as
            ``test_cfg.acceleration``. Such a model can only be asked.

    Raises:
        FileNotFoundError: If there is no such file or name.
        ValueError: If the weights cannot be read or do not fit, or the acceleration is unknown.

    Example:
        >>> model = MVP('model_folder')
        >>> answer = model('cat.jpg', text='the cat on the left')
        >>> answer.boxes, answer.masks, answer.plot()
    """

    def __init__(self, source: str | Path, device: str | torch.device | None = None,
                 config: str | Path | Config | None = None,
                 dtype: str | torch.dtype | None = None,
                 acceleration: bool | Mapping[str, Any] | None = None) -> None:
        self._inferencer = PerceptionInferencer(
            config, source, device, dtype, acceleration)
        self._perceiver = self._inferencer.perceiver

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._inferencer.device

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that can be asked."""
        return sorted(self._inferencer.config.inferencer.tasks)

    def __call__(self, images: Any, *, words: Sequence[str] | None = None,
                 text: str | Sequence[str] | None = None, batch_size: int | None = None,
                 workers: int | None = None, progress: bool = True,
                 channels: Channels | None = None, allow_urls: bool = False,
                 **question: Any) -> Answer | list[Answer]:
        """Ask one or several questions about one or several images.

        Args:
            images: A path, a folder, a glob, an address, a PIL image, an array, a tensor, or a
                list or iterator of these; see :func:`~mvp_mm.apis.sources.list_sources`.
            words: A list of words.
            text: A sentence, or a list of them: several questions.
            batch_size: Images in one forward pass, or sentences where there are several; None
                for 8 on a CPU where the model is small (2.5 megapixels at most), else 1. Scores
                of one and the same image differ by rounding between batches.
            workers: Processes on a CPU that work on a batch each; None for one per core where the
                model is small and the images many, else 1
                (:func:`~mvp_mm.apis.many_images.make_plan`). Each takes the memory of a forward
                pass. For an iterator, which may be a camera, None means 1 of both.
            progress: Show a progress bar where there are several answers to come.
            channels: ``'rgb'`` or ``'bgr'``: order of the channels of arrays and tensors.
            allow_urls: Fetch images from ``http://`` and ``https://`` addresses.
            **question: See :meth:`Picture.ask`.

        Returns:
            An answer for one image and one question; else a list of them, all the answers about
            the first image first.

        Raises:
            FileNotFoundError: If an image file is missing.
            ValueError: If an argument is wrong or an image unreadable; a list of images is
                checked before the first question, as far as that takes no reading.
        """
        answers = list(self.stream(
            images, words=words, text=text, batch_size=batch_size, workers=workers,
            progress=progress, channels=channels, allow_urls=allow_urls, **question))
        if is_one_image(images) and (text is None or isinstance(text, str)):
            return answers[0]
        return answers

    def stream(self, images: Any, *, words: Sequence[str] | None = None,
               text: str | Sequence[str] | None = None, batch_size: int | None = None,
               workers: int | None = None, progress: bool = True,
               channels: Channels | None = None, allow_urls: bool = False,
               finish: Callable[[Answer], Any] | None = None, **question: Any) -> Iterator[Any]:
        """Answer as :meth:`__call__` does, one answer at a time, as soon as there is one.

        ``finish`` works on each answer beside the next ones, in the process that made it, such as
        drawing it. What it gives takes the answer's place, and must be picklable for workers.
        """
        check_counts(batch_size, workers)
        questions = self._questions(words, text, **question)
        sources = list_sources(images, channels, allow_urls)
        listed = len(sources) if isinstance(sources, list) else None
        plan = self.make_plan(batch_size, workers, listed, len(questions))
        answers = answer_in_order(
            self._prepare, partial(self._answer_images, questions=questions,
                                   batch_size=plan.batch_size),
            finish, sources, len(questions), plan)
        count = None if listed is None else listed * len(questions)
        return iter(tqdm(answers, total=count, unit='answer', leave=False,
                         disable=not progress or count == 1))

    def make_plan(self, batch_size: int | None = None, workers: int | None = None,
                  images: int | None = None, questions: int = 1) -> Plan:
        """See :func:`~mvp_mm.apis.many_images.make_plan`."""
        return make_plan(self._inferencer.model, batch_size, workers, images, questions)

    def open(self, image: Any, channels: Channels | None = None,
             allow_urls: bool = False) -> Picture:
        """Encode an image once, to ask any number of questions about it.

        Args:
            image: As in :meth:`__call__`; exactly one.
            channels: Order of the channels of an array or tensor.
            allow_urls: Fetch it from an address.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If it is not one image, or unreadable.
        """
        if not is_one_image(image):
            raise ValueError('open() takes one image; ask about several by calling the model')
        source, = list_sources(image, channels, allow_urls)
        return Picture(self, source)

    def _questions(self, words: Any, text: Any, **question: Any) -> list[Question]:
        if text is None or isinstance(text, str):
            return [self._question(words=words, text=text, **question)]
        texts = list(text)
        if not texts:
            raise ValueError('text is an empty list')
        return [self._question(words=words, text=one, **question) for one in texts]

    def _question(self, *, nms_iou: float | None = NMS_IOU, **question: Any) -> Question:
        checked = self._inferencer.choose_question(nms_iou=nms_iou, **question)
        if isinstance(checked.asker, PanopticTask):
            checked.asker.segments_only = True
        return checked

    def _prepare(self, source: ImageSource) -> PreparedImage:
        return self._perceiver.prepare(source.read(), source.name)

    def _answer_images(self, images: Sequence[tuple[ImageSource, PreparedImage]],
                       questions: Sequence[Question], batch_size: int) -> Iterator[Answer]:
        """Ask one question about a batch of images, or several about one that is encoded once."""
        if len(questions) == 1:
            start = time.perf_counter()
            encoded = self._encode([image for _, image in images])
            share = (time.perf_counter() - start) / len(images)
            yield from self._answers(encoded, [source for source, _ in images], questions, share)
            return
        (source, image), = images
        picture = Picture(self, source, image)
        for _, alike in groupby(questions, lambda q: (q.thinking, q.answering)):
            together = list(alike)
            for first in range(0, len(together), batch_size):
                yield from picture._ask(together[first:first + batch_size])

    def _encode(self, images: Sequence[PreparedImage]) -> EncodedImages:
        encoded = self._perceiver.encode(images)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return encoded

    def _answers(self, encoded: EncodedImages, sources: Sequence[ImageSource],
                 questions: Sequence[Question], encode_seconds: float) -> Iterator[Answer]:
        """Answer questions that share their options about each of the encoded images."""
        start = time.perf_counter()
        first = questions[0]
        found = self._perceiver.perceive(
            encoded, [[question.request() for question in questions] for _ in sources],
            first.thinking, first.answering, compact_masks=True)
        thinking = self._inferencer.model.thinking if first.thinking is None else first.thinking
        answers = []
        for source, image, samples in zip(sources, encoded.images, found, strict=True):
            for question, sample in zip(questions, samples, strict=True):
                answers.append((sample, question, image.name, image.size, source.read))
        # Moved off the device here, which waits for it.
        seconds = dict(encode=encode_seconds)
        for index, parts in enumerate(answers):
            if index == 0:
                seconds['answer'] = (time.perf_counter() - start) / len(answers)
            yield make_answer(*parts, seconds, bool(thinking))


class Picture:
    """An image that is encoded; questions about it share encoder, pixel decoder and LLM prefix.

    Args:
        model: The model.
        source: The image.
        prepared: The same, already read and on the model's canvas; None to do so.

    Attributes:
        name: Path, address or ``image_0``.
        size: (height, width).
        encode_seconds: What encoding took, without reading the file.
    """

    def __init__(self, model: MVP, source: ImageSource,
                 prepared: PreparedImage | None = None) -> None:
        self._model, self._source = model, source
        prepared = prepared or model._prepare(source)
        start = time.perf_counter()
        self._encoded = model._encode([prepared])
        self._encoded.state.prefixes = ImagePrefixes()
        self.encode_seconds = time.perf_counter() - start
        self.name, self.size = source.name, prepared.size

    def __repr__(self) -> str:
        return f'Picture({self.name}, {self.size[0]} x {self.size[1]})'

    @property
    def pixels(self) -> np.ndarray:
        """Read the image, (H, W, 3) uint8 RGB."""
        return np.ascontiguousarray(self._source.read()[..., ::-1])

    def ask(self, text: str | None = None, *, words: Sequence[str] | None = None,
            stuff: Sequence[str] | None = None, task: str | None = None,
            thinking: bool | None = None, threshold: float | None = None,
            nms_iou: float | None = NMS_IOU) -> Answer:
        """Ask a question.

        Args:
            text: A sentence, or names between commas.
            words: A list of words.
            stuff: Which of the words are stuff (grass, sky); None where class lists may say.
            task: Name of the task; None chooses by
                :func:`~mvp_mm.apis.task_choice.choose_task`.
            thinking: Let the LLM write a caption before it answers, which takes most of the
                time; None for the model's own setting.
            threshold: Least score; None for 0.3 with words and what the task decides otherwise.
            nms_iou: Box IoU above which the lower-scored of two answers with one label is
                removed (NMS); None for the model's own setting, as in tests.

        Raises:
            ValueError: If an argument is wrong.
        """
        question = self._model._question(
            words=words, text=text, stuff=stuff, task=task, thinking=thinking,
            threshold=threshold, nms_iou=nms_iou)
        return self._ask([question])[0]

    def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        return list(self._model._answers(
            self._encoded, [self._source], questions, self.encode_seconds))
