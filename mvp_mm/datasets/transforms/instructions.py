# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns an image's annotation into tokenised instructions."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mvp_mm.datasets.transforms.sample_random import SampleGenerator
from mvp_mm.registry import TOKENIZERS, TRANSFORMS
from mvp_mm.structures import Request
from mvp_mm.tokenization.fit_to_context import fit_word_list
from mvp_mm.tokenization.instruction_tokenizer import TooLongError
from mvp_mm.tokenization.split_to_context import tokenize_in_parts


@TRANSFORMS.register_module()
class BuildInstructions(BaseTransform):
    """Asks every task of the dataset about the image.

    It needs the annotation only, so it comes first in a pipeline: an image that no task asks
    about is not even read, and masks that no request needs are not decoded.

    Required keys: ``annotation``, ``tasks``; or ``parts``, items of several datasets about the
    same image. Added keys: ``requests`` (with tokens) and, in each part, ``objects``, the indices
    of the annotation's objects that are needed: the requests' targets and, in evaluation of word
    lists, the crowd regions.

    Args:
        tokenizer: Config of the instruction tokenizer, or a built one.
        training: Whether to draw lists, negatives and captions and to write responses.
        response_room: Tokens that the LLM may write in evaluation: a word list is asked in parts
            where it would leave less room.
    """

    def __init__(self, tokenizer: dict | Any, training: bool, response_room: int = 0) -> None:
        if isinstance(tokenizer, dict):
            tokenizer = TOKENIZERS.build(tokenizer)
        self.tokenizer = tokenizer
        self.training = training
        self.response_room = response_room
        self._sample_generator = SampleGenerator(purpose=0)

    def _generator(self, results: dict[str, Any]) -> np.random.Generator:
        """In training the sample's generator; in evaluation a fixed one."""
        if not self.training:
            return np.random.default_rng(0)
        return self._sample_generator(results)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Build the requests.

        Returns:
            The results, or None in training where no task asks anything.

        Raises:
            ValueError: In evaluation, where no task asks anything.
        """
        rng = self._generator(results)
        parts = results.get('parts') or [results]
        requests: list[Request] = []
        offset = 0
        for part in parts:
            asked = self._ask(part, rng)
            # A request's targets count through the objects of all parts.
            for request in asked:
                request.targets = request.targets + offset
            requests.extend(asked)
            offset += len(part['annotation'].labels)
        if not requests:
            if self.training:
                return None
            names = [task.name for part in parts for task in part['tasks']]
            raise ValueError(f'{results["annotation"].source}: none of the tasks {names} has a '
                             'question')
        results['requests'] = requests
        return results

    def _ask(self, part: dict[str, Any], rng: np.random.Generator) -> list[Request]:
        """One dataset's requests; notes which of its objects they need."""
        annotation = part['annotation']
        needed = np.zeros(len(annotation.labels), dtype=bool)
        requests = []
        for task in part['tasks']:
            for request in self._tokenized(
                    task, task.instruct(annotation, rng, self.training), part):
                request.task = task
                needed[request.targets] = True
                if not self.training and request.instruction.kind == 'word':
                    needed |= annotation.crowd
                requests.append(request)
        part['objects'] = np.flatnonzero(needed)
        return requests

    def _tokenized(self, task: Any, requests: list[Request],
                   part: dict[str, Any]) -> list[Request]:
        """The requests with tokens; lists that are too long are shortened or asked in parts.

        Raises:
            ValueError: If a request has no words or too many; names the file, the image and, of
                an expression, its reference and sentence.
        """
        done = []
        for request in requests:
            try:
                done += self._fitted(task, request)
            except ValueError as error:
                raise ValueError(f'{_origin(part, request)}: {error}') from error
        return done

    def _fitted(self, task: Any, request: Request) -> list[Request]:
        if not self.training:
            tokenize_in_parts(request.instruction, self.tokenizer, self.response_room)
            return [request]
        try:
            self.tokenizer.tokenize(request.instruction)
            return [request]
        except TooLongError:
            if task.kind != 'word':
                raise
        shorter = fit_word_list(request, self.tokenizer)
        for one in shorter:
            self.tokenizer.tokenize(one.instruction)
        return shorter


def _origin(part: dict[str, Any], request: Request) -> str:
    """Where a request comes from, for messages."""
    origin = f'{part["annotation"].source} (image {part.get("img_id")})'
    if 'ref_id' in request.meta:
        origin += f', reference {request.meta["ref_id"]}, sentence {request.meta["sent_id"]}'
    return origin


@TRANSFORMS.register_module()
class TokenizeRequests(BaseTransform):
    """Tokenises requests that were made from a user's words, for inference.

    Required key: ``requests``.

    Args:
        tokenizer: Config of the instruction tokenizer, or a built one.
        response_room: As for :class:`BuildInstructions`.
    """

    def __init__(self, tokenizer: dict | Any, response_room: int = 0) -> None:
        self.tokenizer = TOKENIZERS.build(tokenizer) if isinstance(tokenizer, dict) else tokenizer
        self.response_room = response_room

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Fill in the tokens of every request's instruction."""
        for request in results['requests']:
            tokenize_in_parts(request.instruction, self.tokenizer, self.response_room)
        return results
