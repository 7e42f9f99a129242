# Copyright (c) mvp_mm authors. All rights reserved.
"""Labels of unusual types, encodings and names are named with file and record, in every format."""
from __future__ import annotations

import base64
import json
import shutil

import pytest

from mvp_mm.own_data import LabelError, read_labels
from tests.test_own_data.label_files import WRITERS, boxes_of, save_images

FLAT_PNG = base64.b64encode(b'\x89PNG\r\n\x1a\n\0\0\0\1IHDR').decode()
HUGE = 10**400


def refused(source, *words):
    with pytest.raises(LabelError) as error:
        read_labels(source)
    text = str(error.value)
    text.encode()
    assert all(word in text for word in words), text


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize('change, words', [
    (lambda c: c['categories'][0].update(id=[1]), ('category number 0', 'id [1]')),
    (lambda c: c['categories'][0].update(name='\u200b'), ('category 1', 'name')),
    (lambda c: c['categories'][1].update(name='d\ud83d'), ('category 2', 'name')),
    (lambda c: c['categories'][1].update(name='cat '), ('repeated class names', 'cat')),
    (lambda c: c['categories'][1].update(id=1), ('category 1', 'more than once')),
    (lambda c: c['images'][0].update(id=[0]), ('image number 0', 'id [0]')),
    (lambda c: c['images'][1].update(id=0), ('image 0', 'more than once')),
    (lambda c: c['images'][0].update(file_name='a\ud83d.jpg'), ('image 0', 'file_name')),
    (lambda c: c['images'].append(dict(c['images'][0], id=9)), ('one.jpg', 'more than once')),
    (lambda c: c['annotations'][0].update(image_id={}), ('annotation 1', 'image_id {}')),
    (lambda c: c['annotations'][0].update(category_id=[1]), ('annotation 1', 'category_id [1]')),
    (lambda c: c['annotations'][0].update(bbox=[1, 1, HUGE, 4]), ('annotation 1', 'bbox')),
    (lambda c: c['annotations'][0].update(iscrowd=[1]), ('annotation 1', 'iscrowd [1]')),
    (lambda c: c['annotations'].append(True), ('annotation number 3', 'object'))])
def test_records_of_coco_are_named(tmp_path, change, words):
    source = WRITERS['coco'](tmp_path)
    change_json(source, change)
    refused(source, 'labels.json', *words)


@pytest.mark.parametrize('shape, words', [
    (dict(group_id=[1]), ('group_id [1]', )), (dict(label='\u200b'), ('label', )),
    (dict(points=[[HUGE, 1], [2, 2], [1, 2]]), ('points', )),
    (dict(points=[dict(x=1, y=2)] * 3), ('points', )), (dict(points=['12'] * 3), ('points', )),
    (dict(shape_type='mask', points=[]), ('at least 1 point', )),
    (dict(shape_type='mask', points=[[1, 1]]), ('no picture', )),
    (dict(shape_type='mask', points=[[1, 1]], mask=FLAT_PNG), ('no picture', )),
    (dict(shape_type='circle', points=[[5, 5]]), ('at least 2 points', ))])
def test_shapes_of_labelme_are_named(tmp_path, shape, words):
    source = WRITERS['labelme'](tmp_path)
    change_json(source / 'one.json', lambda content: content['shapes'][0].update(shape))
    refused(source, 'one.json, shape 0', *words)


def test_names_of_labelme_that_look_alike_are_refused(tmp_path):
    source = WRITERS['labelme'](tmp_path)

    def rename(content):
        for shape, label in zip(content['shapes'], ('a cat', 'a  cat'), strict=True):
            shape['label'] = label

    change_json(source / 'one.json', rename)
    refused(source, "repeated class names ['a cat']")


@pytest.mark.parametrize('name, text, words', [
    ('labels/one.txt', b'inf 0.5 0.5 0.1 0.1', ('one.txt, line 1', 'class inf')),
    ('labels/one.txt', '0 0.5 0.5 0.1 0.1'.encode('utf-16'), ('one.txt', 'UTF-8')),
    ('labels/one.txt', b'0 0 0 1e9 0 1e9 1e9', ('one.txt, line 1', 'beyond 1048576')),
    ('data.yaml', b'names: {0: cat, a: dog}', ('data.yaml', 'numbered from 0')),
    ('data.yaml', b'names:\n  0: cat\n  0: dog\n', ('data.yaml', 'key 0 is there twice')),
    ('data.yaml', b'names: [cat, cat]', ("repeated class names ['cat']", )),
    ('data.yaml', b'names: [cat, "cat\\u00a0"]', ("repeated class names ['cat']", )),
    ('data.yaml', b'names: ' + b'[' * 5000, ('data.yaml', 'not valid YAML')),
    ('data.yaml', b'names: !!python/object/apply:os.system ["true"]', ('data.yaml', 'tag'))])
def test_files_of_yolo_are_named(tmp_path, name, text, words):
    source = WRITERS['yolo'](tmp_path)
    (source / name).write_bytes(text)
    refused(source, *words)


def test_merged_keys_of_yaml_may_be_written_over(tmp_path):
    source = WRITERS['yolo'](tmp_path)
    plain = boxes_of(read_labels(source))
    (source / 'data.yaml').write_text(
        'base: &base {path: elsewhere, nc: 2}\n<<: *base\nnames: [cat, dog]\nnc: 3\npath: .\n')
    assert boxes_of(read_labels(source)) == plain


@pytest.mark.parametrize('kind, file, old, new, words', [
    ('voc', 'Annotations/one.xml', '<width>60<', '<width>sixty<', ('one.xml', 'size')),
    ('voc', 'Annotations/one.xml', '<width>60<', '<width>inf<', ('one.xml', 'size')),
    ('voc', 'Annotations/one.xml', '>cat<', '>\u200b<', ('one.xml, object 0', 'class name')),
    ('cvat', 'annotations.xml', 'width="60"', 'width="x"', ('image 0', 'whole numbers'))])
def test_elements_of_xml_are_named(tmp_path, kind, file, old, new, words):
    source = WRITERS[kind](tmp_path)
    path = source / file if source.is_dir() else source
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(source, *words)


@pytest.mark.parametrize('left', ['inf', '10.5'])
def test_the_window_of_a_cvat_mask_is_of_whole_pixels(tmp_path, left):
    save_images(tmp_path / 'images')
    (tmp_path / 'annotations.xml').write_text(
        '<annotations><image id="0" name="one.jpg" width="60" height="40"><mask label="cat" '
        f'rle="2,1,4,2" left="{left}" top="20" width="3" height="3"/></image></annotations>')
    refused(tmp_path, 'image 0 (one.jpg), shape 0')


@pytest.mark.parametrize('kind, file', [
    ('labelme', 'one.json'), ('voc', 'Annotations/one.xml')])
def test_an_image_with_two_files_of_labels_is_refused(tmp_path, kind, file):
    source = WRITERS[kind](tmp_path)
    shutil.copy(source / file, (source / file).with_stem('again'))
    refused(source, 'one.jpg is labelled more than once')


@pytest.mark.parametrize('data, words', [
    ('image,expression,x,y,w,h\none.jpg,\u200b,5,5,9,9\n'.encode(), ('line 2', 'expression')),
    (b'image,expression,x,y,w,h,x\none.jpg,the cat,5,5,9,9,30\n', ('line 1', "['x']")),
    ('image,expression,x,y,w,h\none.jpg,caf\xe9,5,5,9,9\n'.encode('latin-1'), ('line 1', 'utf-8')),
    (b'image;expression;x;y;w;h\none.jpg;the cat;5;5;9;9\n', ('must name the columns', ))])
def test_rows_of_a_csv_are_named(tmp_path, data, words):
    save_images(tmp_path)
    (tmp_path / 'a.csv').write_bytes(data)
    refused(tmp_path / 'a.csv', 'a.csv', *words)


@pytest.mark.parametrize('name, data, words', [
    ('labels.json', b'[' * 100_000, 'not valid JSON'), ('labels.json', b'{"images": [', 'JSON'),
    ('labels.xml', b'<annotation><object>', 'not valid XML')])
def test_a_file_that_cannot_be_parsed_is_refused_with_the_cause(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, name, words)
