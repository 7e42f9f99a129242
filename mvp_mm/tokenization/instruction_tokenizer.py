# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns an instruction's segments into token ids with exact spans (paper section 3.2)."""
from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerBase

from mvp_mm.registry import TOKENIZERS
from mvp_mm.structures import Instruction, Segment, SegmentKind

# Members by plain names: looking one up in its class takes as long as encoding a cached name.
_TEXT, _IMAGE, _PHRASE = SegmentKind.TEXT, SegmentKind.IMAGE, SegmentKind.PHRASE
_RESPONSE, _PER, _EOS = SegmentKind.RESPONSE, SegmentKind.PER, SegmentKind.EOS


@lru_cache(maxsize=4)
def _load_tokenizer(path: str, per_token: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer folder once per process, with the summary token added."""
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f'Tokenizer folder {path} does not exist')
    described = any((folder / name).is_file()
                    for name in ('tokenizer.json', 'tokenizer_config.json'))
    if described:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    elif all((folder / name).is_file() for name in ('vocab.json', 'merges.txt')):
        tokenizer = GPT2TokenizerFast.from_pretrained(path, local_files_only=True)
    else:
        raise FileNotFoundError(
            f'Tokenizer folder {path} holds neither tokenizer.json or tokenizer_config.json nor '
            'vocab.json with merges.txt')
    if tokenizer.eos_token_id is None:
        raise ValueError(f'Tokenizer {path} has no end-of-text token')
    tokenizer.per_is_new = per_token not in tokenizer.get_vocab()
    tokenizer.add_special_tokens({'additional_special_tokens': [per_token]})
    tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


@lru_cache(maxsize=4)
def _special_tokens(path: str, per_token: str) -> tuple[frozenset[int], re.Pattern[str]]:
    """Ids that no text may become, and what spells them."""
    tokenizer = _load_tokenizer(path, per_token)
    # Unknown characters do become the unknown token, and some tokenizers pad with a letter.
    names = [token for token in tokenizer.all_special_tokens
             if token != tokenizer.unk_token and len(token) > 1]
    return (frozenset(tokenizer.convert_tokens_to_ids(names)),
            re.compile('|'.join(map(re.escape, sorted(names, key=len, reverse=True)))))


@lru_cache(maxsize=1 << 16)
def _encode(path: str, per_token: str, text: str) -> tuple[int, ...]:
    """Encode one segment's text; what spells a special token is text like any other."""
    backend = _load_tokenizer(path, per_token).backend_tokenizer
    ids = tuple(backend.encode(text, add_special_tokens=False).ids)
    special, spelling = _special_tokens(path, per_token)
    if special.isdisjoint(ids):
        return ids
    # Unigram and word-level models have special tokens among their own pieces: cut these apart.
    cuts = [0, *(match.start() + 1 for match in spelling.finditer(text)), len(text)]
    ids = tuple(i for start, end in zip(cuts, cuts[1:], strict=False)
                for i in backend.encode(text[start:end], add_special_tokens=False).ids)
    if not special.isdisjoint(ids):
        raise ValueError(f'{text!r} cannot be encoded without a special token of {path}')
    return ids


@lru_cache(maxsize=1 << 16)
def _encode_word(path: str, per_token: str, text: str) -> tuple[int, ...]:
    """Encode a phrase or a response with a leading space; no ids where it is empty."""
    text = text.strip()
    return _encode(path, per_token, f' {text}') if text else ()


class TooLongError(ValueError):
    """An instruction has more tokens than the LLM takes."""


@TOKENIZERS.register_module()
class InstructionTokenizer:
    """Tokenises instructions segment by segment.

    Every segment is encoded on its own, so that a phrase's span is known by construction and
    does not depend on its neighbours; segment encodings are cached. Phrases and responses get a
    leading space, as words inside a sentence have.

    Args:
        path: Folder of a Hugging Face tokenizer, or of a GPT-2 byte-level BPE (``vocab.json``
            and ``merges.txt``). Read on first use.
        num_visual_tokens: Number V of visual tokens of an image; None for a tokenizer of texts
            alone.
        per_token: The summary token, added to the vocabulary.
        max_length: Longest sequence T that the LLM takes, visual tokens included.
    """

    def __init__(self,
                 path: str,
                 num_visual_tokens: int | None = None,
                 per_token: str = '<PER>',
                 max_length: int = 2048) -> None:
        if num_visual_tokens is not None and num_visual_tokens < 1:
            raise ValueError(f'num_visual_tokens must be positive, got {num_visual_tokens}')
        self.path = str(path)
        # What is cached per folder must not follow a change of the working directory.
        self._folder = os.path.abspath(path)
        self.num_visual_tokens = num_visual_tokens
        self.per_token = per_token
        self.max_length = max_length

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The underlying tokenizer, shared by every instance in the process."""
        return _load_tokenizer(self._folder, self.per_token)

    @property
    def per_id(self) -> int:
        """Id of the summary token."""
        return self.tokenizer.convert_tokens_to_ids(self.per_token)

    @property
    def per_is_new(self) -> bool:
        """Whether the folder's own vocabulary, and so its LLM, does not know the summary token."""
        return self.tokenizer.per_is_new

    @property
    def eos_id(self) -> int:
        """Id of the end-of-text token."""
        return self.tokenizer.eos_token_id

    @property
    def pad_id(self) -> int:
        """Id for padding and for image placeholders; end-of-text where none is defined."""
        pad_id = self.tokenizer.pad_token_id
        return self.eos_id if pad_id is None else pad_id

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the summary token included."""
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without special tokens."""
        return list(_encode(self._folder, self.per_token, text))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of token ids, special tokens left out."""
        return self.tokenizer.decode(
            [int(i) for i in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def length_of(self, segments: Sequence[Segment]) -> int:
        """Number of tokens of some segments, the V visual ones of an image included."""
        return sum(len(self._segment_ids(segment, 'any')) for segment in segments)

    def tokenize(self, instruction: Instruction) -> Instruction:
        """Fill in the token fields of an instruction.

        Args:
            instruction: Its ``input_ids``, ``phrase_index``, ``labels``, ``prompt_length`` and
                ``image_start`` are set.

        Returns:
            The same object.

        Raises:
            TooLongError: If the sequence is longer than ``max_length``; nothing is set then.
            ValueError: If a phrase is empty, or the prompt holds more than one image.
        """
        ids: list[int] = []
        spans: list[int] = []
        lengths: list[int] = []
        phrase = -1
        image_start = -1
        # Every other segment of a list of names is a comma: what these need is written out here.
        folder, per_token = self._folder, self.per_token
        for segment in instruction.prompt:
            kind, span = segment.kind, -1
            tokens: Sequence[int]
            if kind is _TEXT:
                tokens = _encode(folder, per_token, segment.text)
            else:
                if kind is _IMAGE:
                    if image_start >= 0:
                        raise ValueError(
                            f'Task {instruction.task}: a prompt holds one image at most')
                    image_start = len(ids)
                elif kind is _PHRASE:
                    phrase += 1
                    span = phrase
                tokens = self._segment_ids(segment, instruction.task)
            ids += tokens
            spans.append(span)
            lengths.append(len(tokens))
        prompt_length = len(ids)
        for segment in instruction.response:
            if segment.kind not in (_RESPONSE, _PER, _EOS):
                raise ValueError(f'Task {instruction.task}: a response holds no '
                                 f'{segment.kind.value} segment')
            ids.extend(self._segment_ids(segment, instruction.task))
        self._check_length(instruction, len(ids), prompt_length)

        instruction.input_ids = np.array(ids, dtype=np.int64)
        instruction.phrase_index = np.full(len(ids), -1, dtype=np.int64)
        instruction.phrase_index[:prompt_length] = np.array(spans).repeat(np.array(lengths))
        instruction.labels = np.full(len(ids), -100, dtype=np.int64)
        instruction.labels[prompt_length:] = instruction.input_ids[prompt_length:]
        instruction.prompt_length = prompt_length
        instruction.image_start = image_start
        return instruction

    def _segment_ids(self, segment: Segment, task: str) -> Sequence[int]:
        kind = segment.kind
        if kind is _TEXT:
            return _encode(self._folder, self.per_token, segment.text)
        if kind is _PHRASE or kind is _RESPONSE:
            ids = _encode_word(self._folder, self.per_token, segment.text)
            if not ids:
                raise ValueError(f'Task {task}: empty {kind.value} segment')
            return ids
        if kind is _IMAGE:
            if self.num_visual_tokens is None:
                raise ValueError('The tokenizer has no num_visual_tokens; configs read by '
                                 'mvp_mm.engine.load_config have it')
            return [self.pad_id] * self.num_visual_tokens
        return [self.per_id if kind is _PER else self.eos_id]

    def _check_length(self, instruction: Instruction, total: int, prompt_length: int) -> None:
        if total > self.max_length:
            raise TooLongError(
                f'Task {instruction.task}: {total} tokens ({prompt_length} in the prompt of '
                f'{len(instruction.phrases)} phrases and {self.num_visual_tokens} visual tokens, '
                f'{total - prompt_length} in the response) exceed max_length={self.max_length}')
