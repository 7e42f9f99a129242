# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm ask``."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mvp_mm.cli.command import Command
from mvp_mm.cli.options import WEIGHTS_HELP, split_words


@click.command(cls=Command)
@click.argument('images', nargs=-1, required=True, metavar='IMAGE...')
@click.option('--words', callback=split_words, metavar='WORD,WORD...',
              help='Phrases to look for, separated by commas.')
@click.option('--text', multiple=True, metavar='SENTENCE',
              help='A sentence that means an object; may be given several times.')
@click.option('--stuff', callback=split_words, metavar='WORD,WORD...',
              help='Those of --words that are stuff (grass, sky). Without it known class lists '
              'say, and other words are tried both ways.')
@click.option('--task', metavar='NAME', help='Name of a task of the model; a wrong one lists '
              'them.  [default: by the question]')
@click.option('--thinking/--no-thinking', default=None,
              help="Let the LLM write a caption first, or not.  [default: the model's]")
@click.option('--threshold', type=float, help='Least score of an answer.')
@click.option('--weights', metavar='MODEL',
              help=f'{WEIGHTS_HELP}  [required]')
@click.option('--config', metavar='CONFIG', help='[default: the one stored in the weights]')
@click.option('--device', help='[default: cuda where there is one, else cpu]')
@click.option('--dtype', help='Precision of matrix products, such as bfloat16.')
@click.option('--accelerate', 'acceleration', is_flag=True,
              help='Replay the model as CUDA graphs, its weights held in --dtype.')
@click.option('--batch-size', type=click.IntRange(min=1),
              help='Images in one forward pass.  [default: 8 for a small model on a CPU, else 1]')
@click.option('--workers', type=click.IntRange(min=1),
              help='Processes on a CPU, each with a batch.  [default: one per core for a small '
              'model, else 1]')
@click.option('--out', type=click.Path(path_type=Path), default=Path('outputs'),
              show_default=True, metavar='DIR',
              help='Folder for the pictures and JSON files of the answers.')
def ask(images: tuple[str, ...], words: list[str] | None, text: tuple[str, ...],
        stuff: list[str] | None, weights: str | None, config: str | None, device: str | None,
        dtype: str | None, acceleration: bool, out: Path, **options: Any) -> None:
    """Ask a trained model about images: files, folders or patterns such as "photos/*.jpg".

    \b
    Examples:
      mvp-mm ask photo.jpg --words "person,dog" --weights CHECKPOINT
      mvp-mm ask photo.jpg --text "the dog on the left" --weights CHECKPOINT
      mvp-mm ask photos/ --words "person,snow" --stuff snow --task panoptic --no-thinking \\
          --weights my_model --out answers
    """
    if weights is None:
        raise click.UsageError('name a model with --weights: a checkpoint, a published folder, or '
                               'a name of the model zoo, such as tiny, which knows drawn shapes')
    if words and text:
        raise click.UsageError('--words and --text exclude each other')
    if not (words or text or options['task']):
        raise click.UsageError('ask with --words or --text, or name a --task that needs neither')
    if stuff and not words:
        raise click.UsageError('--stuff goes with --words')
    if any(not sentence.strip() for sentence in text):
        raise click.UsageError('--text is empty')
    from mvp_mm.cli.actions.ask import ask_model
    model = dict(source=weights, config=config, device=device, dtype=dtype,
                 acceleration=acceleration)
    question = dict(words=words, text=list(text) or None, stuff=stuff, **options)
    ask_model(images, model, question, out)
