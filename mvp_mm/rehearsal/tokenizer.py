# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes byte-level BPE tokenizers with the files and sizes of Phi-1.5's, SmolLM2's and Qwen3's."""
from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.rehearsal.scenes import draw_scene, write_json
from mvp_mm.tasks import prompts

END_OF_TEXT = '<|endoftext|>'
FILES = ('tokenizer*', 'vocab*', 'merges.txt', 'special_tokens_map.json', 'added_tokens.json')
# GPT-2's 50 257 tokens, the last of which is the end of text. A part is learned, of which the rest
# is made.
GPT2_TOKENS, _LEARNED = 50_257, 1500
# SmolLM2's special tokens stand before its BPE, and no row of its embedding is left.
SMOLLM2_TOKENS = 49_152
SMOLLM2_SPECIAL = (
    END_OF_TEXT, '<|im_start|>', '<|im_end|>', '<repo_name>', '<reponame>', '<file_sep>',
    '<filename>', '<gh_stars>', '<issue_start>', '<issue_comment>', '<issue_closed>',
    '<jupyter_start>', '<jupyter_text>', '<jupyter_code>', '<jupyter_output>',
    '<jupyter_script>', '<empty_output>')
# Qwen3's stand behind it, and its embedding is padded beyond them.
QWEN3_BPE = 151_643
QWEN3_ADDED = (
    END_OF_TEXT, '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>',
    '<|box_start|>', '<|box_end|>', '<|quad_start|>', '<|quad_end|>', '<|vision_start|>',
    '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>', '<tool_call>',
    '</tool_call>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>', '<|fim_pad|>',
    '<|repo_name|>', '<|file_sep|>', '<tool_response>', '</tool_response>', '<think>', '</think>')
# How Qwen3 cuts a text into words: contractions, words, single digits, signs, blanks.
_QWEN3_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+')
# CodeGen's tokens of 31 to 2 spaces and 9 to 2 tabs stand behind them.
BLANKS = (*(' ' * k for k in range(31, 1, -1)), *('\t' * k for k in range(9, 1, -1)))


def write_tokenizer(folder: Path) -> None:
    """Write Phi-1.5's files. The BPE has learned class names and the tasks' own words."""
    tokenizer = _make_bpe(GPT2_TOKENS - 1, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in BLANKS])
    _write_files(tokenizer, folder, dict(
        tokenizer_class='CodeGenTokenizer', add_prefix_space=False, model_max_length=2048,
        **dict.fromkeys(('bos_token', 'eos_token', 'unk_token'), END_OF_TEXT)))
    vocabulary = json.loads((folder / 'vocab.json').read_text(encoding='utf-8'))
    vocabulary[END_OF_TEXT] = tokenizer.token_to_id(END_OF_TEXT)
    write_json(folder / 'vocab.json', vocabulary)
    write_json(folder / 'added_tokens.json', {
        text: tokenizer.token_to_id(text) for text in reversed(BLANKS)})


def write_smollm2_tokenizer(folder: Path) -> None:
    """Write SmolLM2's files: digits stand alone, special tokens come first."""
    tokenizer = _make_bpe(SMOLLM2_TOKENS, pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)]), SMOLLM2_SPECIAL)
    _write_files(tokenizer, folder, dict(
        tokenizer_class='GPT2Tokenizer', add_prefix_space=False, model_max_length=8192,
        bos_token='<|im_start|>', eos_token='<|im_end|>', unk_token=END_OF_TEXT,
        pad_token='<|im_end|>'))


def write_qwen3_tokenizer(folder: Path) -> None:
    """Write Qwen3's files: texts are normalized (NFC), no token begins a text."""
    tokenizer = _make_bpe(QWEN3_BPE, pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_QWEN3_WORDS), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    tokenizer.normalizer = normalizers.NFC()
    for text in QWEN3_ADDED:
        add = tokenizer.add_special_tokens if text.startswith('<|') else tokenizer.add_tokens
        add([AddedToken(text, normalized=False)])
    _write_files(tokenizer, folder, dict(
        tokenizer_class='Qwen2Tokenizer', add_prefix_space=False, model_max_length=131_072,
        bos_token=None, eos_token='<|im_end|>', unk_token=None, pad_token=END_OF_TEXT))


def _make_bpe(size: int, words: pre_tokenizers.PreTokenizer,
              special: Sequence[str] = ()) -> Tokenizer:
    """Fill what was learned up to ``size`` tokens, ``special`` ones in front."""
    learned = _learn()
    tokens = [*special, *learned['vocab']]
    model = models.BPE(*_add_merges(tokens, [tuple(pair) for pair in learned['merges']], size,
                                    tokens[len(special):]))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    # The model knows them; a tokenizer cuts no text at them before it is told.
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return tokenizer


@cache
def _learn() -> dict:
    """Learn the small part of a BPE that every family's begins with."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=_LEARNED, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    model = json.loads(tokenizer.to_str())['model']
    return dict(vocab=sorted(model['vocab'], key=model['vocab'].get), merges=model['merges'])


def _write_files(tokenizer: Tokenizer, folder: Path, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))    # vocab.json, merges.txt
    tokenizer.save(str(folder / 'tokenizer.json'))
    write_json(folder / 'tokenizer_config.json', config)
    write_json(folder / 'special_tokens_map.json', {
        key: text for key, text in config.items() if key.endswith('_token') and text})


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files of an LLM's folder, without its weights and sizes.

    Raises:
        FileNotFoundError: If there are none.
    """
    files = [path for pattern in FILES for path in sorted(source.glob(pattern))]
    if not files:
        raise FileNotFoundError(f'{source} holds no tokenizer ({", ".join(FILES)})')
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, folder)


def _add_merges(tokens: list[str], merges: list[tuple[str, str]], size: int,
                learned: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Fill a BPE up to the published size: each learned token before each of the rarest ones."""
    vocabulary = {token: row for row, token in enumerate(tokens)}
    for pair in product(learned, reversed(learned)):
        if len(vocabulary) == size:
            break
        merged = ''.join(pair)
        if merged not in vocabulary:
            vocabulary[merged] = len(vocabulary)
            merges.append(pair)
    return vocabulary, merges


def _texts() -> Iterable[str]:
    for name in ('coco_stuff_171', 'ade20k_150', 'cityscapes_19', 'pascal_context_59'):
        yield from (f' {word}' for word in load_vocabulary(name)[0] * 4)
    yield from (prompts.WORD_DESCRIPTION, prompts.SENTENCE_DESCRIPTION,
                prompts.CAPTION_DESCRIPTION, f' {prompts.RESULT}', prompts.ANSWER)
    yield from (draw_scene(number).caption for number in range(20))
