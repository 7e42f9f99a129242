# Copyright (c) mvp_mm authors. All rights reserved.
"""Formats of records, and what texts and numbers they take."""
from __future__ import annotations

import itertools
import math

import pytest

from mvp_mm.utils import records
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import RecordFormat
from mvp_mm.utils.texts import are_plain, clean, is_text, named, same_look, shown

FORMAT = RecordFormat('annotation', id=records.ID, image_id=records.ID, bbox=records.BOX,
                      iscrowd=records.FLAG.optional)
SOUND = dict(id=5, image_id=1, bbox=[0, 0, 3, 4])


def accepts(record, **names):
    return FORMAT.accepts(record, Faults('ann.json'), **names)


@pytest.mark.parametrize('more', [
    {}, dict(iscrowd=0), dict(iscrowd=1), dict(iscrowd=True), dict(other=object()),
    dict(bbox=[math.nan, 0, 1, 1])])
def test_a_sound_record_is_accepted(more):
    assert accepts({**SOUND, **more}, place=0)


@pytest.mark.parametrize('change, message', [
    (dict(iscrowd='0'), "annotation 5 has iscrowd '0', expected 0, 1, true or false"),
    (dict(iscrowd=2), 'annotation 5 has iscrowd 2'), (dict(iscrowd=[0]), r'has iscrowd \[0\]'),
    (dict(iscrowd=1.0), 'has iscrowd 1.0'), (dict(iscrowd=None), 'has iscrowd None'),
    (dict(id=2**63), r'annotation number 3 \(image 1\) has id 9223372036854775808, expected a w'),
    (dict(id=5.0), r'annotation number 3 \(image 1\) has id 5.0'),
    (dict(id=True), r'annotation number 3 \(image 1\) has id True'),
    (dict(image_id='1'), "annotation 5 has image_id '1'"),
    (dict(bbox=[0, 0, 3]), r'annotation 5 has bbox \[0, 0, 3\], expected \[x, y, w, h\]'),
    (dict(bbox=[0, 0, 3, 10**400]), 'annotation 5 has bbox'),
    (dict(bbox=[0, 0, 3, '4']), 'annotation 5 has bbox'),
    (dict(bbox=[0, 0, 3, False]), 'annotation 5 has bbox')])
def test_a_value_of_another_kind_is_named_with_its_record(change, message):
    with pytest.raises(ValueError, match=f'^ann.json: .*{message}'):
        accepts({**SOUND, **change}, place=3)


def test_a_record_without_id_is_named_by_its_place():
    with pytest.raises(ValueError, match=r'^ann.json: annotation number 3 \(image 1\) lacks id$'):
        accepts({key: SOUND[key] for key in ('image_id', 'bbox')}, place=3)
    with pytest.raises(ValueError, match='^ann.json: annotation number 3 must be an object, got 7'):
        accepts(7, place=3)


def test_what_a_record_belongs_to_is_named():
    with pytest.raises(ValueError, match='^ann.json: image 1, annotation 5 has iscrowd 7'):
        accepts({**SOUND, 'iscrowd': 7}, within='image 1, ')
    with pytest.raises(ValueError, match='^ann.json: line 9 has iscrowd 7'):
        accepts({**SOUND, 'iscrowd': 7}, where='line 9')


def test_a_format_is_derived_from_another():
    derived = FORMAT.but(without=('bbox',), score=records.SCORE)
    assert list(derived.fields) == ['id', 'image_id', 'iscrowd', 'score']
    assert 'bbox' in FORMAT and 'bbox' not in derived


@pytest.mark.parametrize('field, good, bad', [
    (records.SCORE, [0, 1, 0.5], [-0.1, 1.1, math.nan, '0.5', True, None]),
    (records.AREA, [0, 2.5, 10**15], [-1, math.inf, math.nan, '3', 10**400]),
    (records.FINITE_BOX, [[0, 0, 0, 1]], [[0, 0, -1, 1], [0, math.nan, 1, 1], [0, 0, 1]]),
    (records.SIDE, [1, 2**31 - 1], [0, -3, 2**31, 5.0, True]),
    (records.SEGMENT_ID, [1, 2**24 - 1], [0, 2**24, '1', 1.0]),
    (records.FILE_NAME, ['a.jpg', 'ñ 雪/é.png', '../x', 'a\nb'],
     ['', 'a\0b', 'bad\udce9.png', 7, None, 'x' * 300, 'é' * 200]),
    (records.TEXT, ['kite', '...', '🪁', '\u202ekite', 'a\0b'],
     ['', ' \t', '\u200b', '\ufeff\u00ad', '\0', '\u3164', 'kite \ud83d', 7, None, ['kite']]),
    (records.STRING, ['', ' '], ['\ud83d', None, 3])])
def test_fields_take_what_their_name_says(field, good, bad):
    assert all(map(field.accepts, good)) and not any(map(field.accepts, bad))


@pytest.mark.parametrize('one, other', [
    ('cat', 'cat '), ('hot dog', 'hot \t dog'), ('hot dog', 'hot\u00a0dog'),
    ('caf\u00e9', 'cafe\u0301'), ('fish', '\ufb01sh'), ('cat', 'c\u200bat'), ('K', '\u212a')])
def test_texts_that_nobody_can_tell_apart_have_one_key(one, other):
    assert same_look(one) == same_look(other)
    with pytest.raises(ValueError, match='ann.json: repeated class names'):
        Faults('ann.json').classes([one, other])


@pytest.mark.parametrize('one, other', [('cat', 'Cat'), ('hot-dog', 'hot dog'), ('ñ', 'n')])
def test_texts_that_differ_have_different_keys(one, other):
    assert same_look(one) != same_look(other)
    assert Faults('ann.json').classes([one, other]) == [one, other]


def test_class_names_are_cleaned_as_words_of_a_caller_are():
    assert Faults('ann.json').classes([' traffic  light ']) == ['traffic light']
    assert clean(' traffic  light ') == 'traffic light' and is_text('a')


def test_plain_texts_are_told_from_all_others():
    parts = ['', ' ', '  ', '\n', '\t', '\x7f', '\0', 'a', 'a b', 'é', '\u200b']
    texts = [''.join(three) for three in itertools.product(parts, repeat=3)]
    for text in texts:
        plain = is_text(text) and clean(text) == same_look(text) == text and text.isascii() and (
            text.isprintable())
        assert are_plain([text]) == are_plain(['cat', text, 'dog']) == plain, repr(text)
    assert sum(are_plain([text]) for text in texts) > 10 and are_plain([])


def test_values_in_messages_are_short_and_can_be_printed():
    assert len(shown(list(range(10**4)))) < 100 and len(shown('x' * 10**6)) < 100
    assert shown(10**5000) == 'a number of thousands of digits'
    for value in ('\ud83d', ['\udce9'], named('\ud83d'), named('a\nb')):
        shown(value).encode()
    assert named('kite 7') == 'kite 7' and named(7) == '7'
