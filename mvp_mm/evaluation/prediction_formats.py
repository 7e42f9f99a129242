# Copyright (c) mvp_mm authors. All rights reserved.
"""What the records of saved predictions hold, file by file."""
from __future__ import annotations

from mvp_mm.utils.records import (
    ANYTHING,
    COUNT,
    FILE_NAME,
    FINITE_BOX,
    FLAG,
    ID_OR_TEXT,
    LIST,
    SCORE,
    SEGMENT_ID,
    STRING,
    Field,
    RecordFormat,
)

# References and sentences of data without such ids have empty ones.
_MARK = Field(lambda value: ID_OR_TEXT.accepts(value) or STRING.accepts(value),
              'a whole number of 64 bits or a text')
_CAPTION = Field(lambda value: value is None or STRING.accepts(value), 'a text or null')

# One member of ``instances`` or ``candidates`` of a sentence.
ANSWER = RecordFormat('answer', bbox=FINITE_BOX, score=SCORE, segmentation=ANYTHING.optional)
_WORD = RecordFormat('prediction', ident='', image_id=ID_OR_TEXT, part=COUNT)
_SENTENCE = RecordFormat('prediction', ident='', image_id=ID_OR_TEXT, ref_id=_MARK, sent_id=_MARK,
                         expression=STRING)
_FOUND = RecordFormat('prediction', ident='', image_id=ID_OR_TEXT, **ANSWER.fields)
_MAP = RecordFormat('prediction', ident='', image_id=ID_OR_TEXT, file_name=FILE_NAME)

SEGMENT = RecordFormat('segment', id=SEGMENT_ID, category_id=ID_OR_TEXT, isthing=FLAG.optional,
                       score=SCORE.optional)
# By file; other.json has keys of words or of sentences.
FORMATS = dict(
    images=RecordFormat('image', id=ID_OR_TEXT),
    captions=_WORD.but(caption=STRING),
    sentences=_SENTENCE.but(caption=_CAPTION.optional, presence=SCORE.optional,
                            instances=LIST.optional, candidates=LIST.optional),
    panoptic=_MAP.but(segments_info=LIST),
    semantic=_MAP,
    instances=_FOUND.but(category_id=ID_OR_TEXT),
    grounding=_FOUND.but(phrase=STRING),
    other_words=_WORD,
    other_sentences=_SENTENCE)
# What tells a record from others of its file.
KEYS = dict(
    images=('id',), captions=('image_id', 'part'),
    sentences=('image_id', 'ref_id', 'sent_id', 'expression'),
    panoptic=('image_id',), semantic=('image_id',), other_words=('image_id', 'part'),
    other_sentences=('image_id', 'ref_id', 'sent_id', 'expression'))
