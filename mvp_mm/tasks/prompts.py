# Copyright (c) mvp_mm authors. All rights reserved.
"""The texts of instructions and responses (paper section 3.2)."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from mvp_mm.structures import Segment, SegmentKind

WORD_DESCRIPTION = ('Please identify all objects according to the given phrase list. '
                    'This is all the candidate phrases.')
SENTENCE_DESCRIPTION = 'Please identify the target according to the following instruction.'
CAPTION_DESCRIPTION = 'Describe the image.'
RESULT = 'The perception result is'
ANSWER = '\nAnswer:'
RESPONSE_SETTINGS = ('caption', 'existing', 'none')

_IMAGE = Segment(SegmentKind.IMAGE)
_PER = Segment(SegmentKind.PER)
_EOS = Segment(SegmentKind.EOS)
_ANSWER = Segment(SegmentKind.TEXT, ANSWER)


def _text(text: str) -> Segment:
    return Segment(SegmentKind.TEXT, text)


@lru_cache(maxsize=1 << 14)
def _phrase(text: str) -> Segment:
    return Segment(SegmentKind.PHRASE, text)


def word_prompt(phrases: Sequence[str]) -> list[Segment]:
    """Build a word prompt of task description, image and ``a, b, c.`` as one list."""
    segments = [_text(WORD_DESCRIPTION), _IMAGE]
    comma = _text(',')
    for index, phrase in enumerate(phrases):
        if index:
            segments.append(comma)
        segments.append(_phrase(phrase))
    return [*segments, _text('.'), _ANSWER]


def sentence_prompt(expression: str) -> list[Segment]:
    """Build a sentence prompt: task description, image, the expression as one phrase."""
    return [_text(SENTENCE_DESCRIPTION), _IMAGE, Segment(SegmentKind.PHRASE, expression),
            _text('.'), _ANSWER]


def caption_prompt() -> list[Segment]:
    """Build a caption prompt: task description and image."""
    return [_text(CAPTION_DESCRIPTION), _IMAGE, _ANSWER]


def close_sentence(text: str) -> str:
    """Give a text exactly one period at its end; empty if nothing is left."""
    text = text.strip().rstrip('. ')
    return f'{text}.' if text else ''


def caption_of(response: str) -> str:
    """Cut the result off a response: inverts :func:`perception_response`."""
    return response.strip().removesuffix(RESULT).strip()


def perception_response(preamble: str = '') -> list[Segment]:
    """Build the response that ends in the summary token.

    Args:
        preamble: What the LLM writes first: a caption, the existing objects, or nothing.
    """
    text = f'{close_sentence(preamble)} {RESULT}'.strip()
    return [Segment(SegmentKind.RESPONSE, text), _PER, _EOS]


def caption_response(caption: str) -> list[Segment]:
    """Build the response of a captioning instruction."""
    return [Segment(SegmentKind.RESPONSE, caption.strip()), _EOS]
