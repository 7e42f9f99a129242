# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes a byte-level BPE tokenizer with the files and the size of Phi-1.5's."""
from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.rehearsal.scenes import draw_scene, write_json
from mvp_mm.tasks import prompts

END_OF_TEXT = '<|endoftext|>'
FILES = ('tokenizer*', 'vocab*', 'merges.txt', 'special_tokens_map.json', 'added_tokens.json')
# GPT-2's 50 257 tokens, the last of which is the end of text; a part is learned, the rest random.
GPT2_TOKENS, _LEARNED = 50_257, 1500
# CodeGen's tokens of 31 to 2 spaces and 9 to 2 tabs stand behind them.
BLANKS = (*(' ' * k for k in range(31, 1, -1)), *('\t' * k for k in range(9, 1, -1)))


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer's files. It has learned class names and the tasks' own words."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=_LEARNED, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    content = json.loads(tokenizer.to_str())
    _add_random_merges(content['model'])
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in BLANKS])
    tokenizer.model.save(str(folder))    # vocab.json, merges.txt
    tokenizer.save(str(folder / 'tokenizer.json'))
    vocabulary = json.loads((folder / 'vocab.json').read_text(encoding='utf-8'))
    vocabulary[END_OF_TEXT] = tokenizer.token_to_id(END_OF_TEXT)
    write_json(folder / 'vocab.json', vocabulary)
    write_json(folder / 'added_tokens.json', {
        text: tokenizer.token_to_id(text) for text in reversed(BLANKS)})
    ends = dict.fromkeys(('bos_token', 'eos_token', 'unk_token'), END_OF_TEXT)
    write_json(folder / 'special_tokens_map.json', ends)
    write_json(folder / 'tokenizer_config.json', dict(
        tokenizer_class='CodeGenTokenizer', add_prefix_space=False, model_max_length=2048, **ends))


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


def _add_random_merges(model: dict) -> None:
    """Fill a BPE up to the published size with merges of random pairs."""
    rng = Random(0)
    vocabulary, merges = model['vocab'], model['merges']
    tokens = sorted(vocabulary, key=vocabulary.get)
    while len(tokens) < GPT2_TOKENS - 1:
        pair = rng.choice(tokens), rng.choice(tokens)
        merged = ''.join(pair)
        if merged not in vocabulary and len(merged) < 16:
            vocabulary[merged] = len(tokens)
            tokens.append(merged)
            merges.append(list(pair))


def _texts() -> Iterable[str]:
    for name in ('coco_stuff_171', 'ade20k_150', 'cityscapes_19', 'pascal_context_59'):
        yield from (f' {word}' for word in load_vocabulary(name)[0] * 4)
    yield from (prompts.WORD_DESCRIPTION, prompts.SENTENCE_DESCRIPTION,
                prompts.CAPTION_DESCRIPTION, f' {prompts.RESULT}', prompts.ANSWER)
    yield from (draw_scene(number).caption for number in range(20))
