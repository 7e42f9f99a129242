# Copyright (c) mvp_mm authors. All rights reserved.
"""Label formats: what is read, and what is refused by name."""
from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mvp_mm.own_data import LabelError, read_labels
from mvp_mm.own_data.formats import recognise
from tests.test_own_data.label_files import (
    EXPECTED,
    IMAGES,
    WRITERS,
    boxes_of,
    save_images,
    write_labelme,
    write_yolo,
    write_yolo_boxes,
)


@pytest.mark.parametrize('name', WRITERS)
def test_each_format_is_recognised(name, tmp_path):
    assert recognise(WRITERS[name](tmp_path)) == name


@pytest.mark.parametrize('name', ['coco', 'yolo', 'labelme', 'voc', 'cvat'])
def test_each_format_gives_the_same_boxes_and_names(name, tmp_path):
    assert boxes_of(read_labels(WRITERS[name](tmp_path))) == EXPECTED


@pytest.mark.parametrize('name', ['coco', 'yolo', 'labelme', 'cvat'])
def test_formats_with_polygons_give_masks(name, tmp_path):
    dataset = read_labels(WRITERS[name](tmp_path))
    assert dataset.has_masks
    found = {image.path.name: image for image in dataset.images}['one.jpg'].objects[1]
    assert np.allclose(found.segmentation, [[30, 10, 50, 10, 40, 35]], atol=1e-4)


def test_yolo_boxes_are_read_from_their_centres(tmp_path):
    assert boxes_of(read_labels(write_yolo_boxes(tmp_path))) == EXPECTED


def test_expressions_of_one_box_mean_one_object(tmp_path):
    dataset = read_labels(WRITERS['csv'](tmp_path))
    first = dataset.images[0].objects
    assert [o.expressions for o in first] == [
        ['the cat', 'a cat, here'], ['the dog', 'a dog, here']]
    assert [o.box for o in first] == [(5, 5, 20, 25), (30, 10, 20, 25)]


def test_corners_may_stand_in_a_csv(tmp_path):
    save_images(tmp_path)
    (tmp_path / 'a.csv').write_text('Image,Expression,x1,y1,x2,y2\none.jpg,"a, b",5,6,15,26\n')
    found, = read_labels(tmp_path / 'a.csv').images[0].objects
    assert (found.box, found.expressions) == ((5, 6, 10, 20), ['a, b'])


def test_splits_of_a_yolo_file_are_kept(tmp_path):
    for split, name in (('train', 'one.jpg'), ('valid', 'two.png')):
        save_images(tmp_path / split / 'images')
        for other in IMAGES:
            if other != name:
                (tmp_path / split / 'images' / other).unlink()
        (tmp_path / split / 'labels').mkdir()
        (tmp_path / split / 'labels' / name).with_suffix('.txt').write_text('0 0.5 0.5 0.2 0.2')
    (tmp_path / 'data.yaml').write_text(
        'names: {0: cat}\ntrain: ../train/images\nval: ../valid/images\n')
    found = {image.path.name: image.split for image in read_labels(tmp_path).images}
    assert found == {'one.jpg': 'train', 'two.png': 'val'}


def test_labelme_shapes_of_one_group_are_one_object(tmp_path):
    save_images(tmp_path)
    shapes = [dict(label='cat', group_id=3, shape_type='polygon', points=points)
              for points in ([[1, 1], [5, 1], [5, 5]], [[10, 10], [20, 10], [20, 20]])]
    (tmp_path / 'one.json').write_text(json.dumps(dict(shapes=shapes, imagePath='one.jpg')))
    found, = read_labels(tmp_path).images[0].objects
    assert found.box == (1, 1, 19, 19)
    assert len(found.segmentation) == 2


def test_labelme_masks_lie_where_their_box_begins(tmp_path):
    save_images(tmp_path)
    region = np.zeros((4, 6), np.uint8)
    region[1:, 2:] = 255
    file = io.BytesIO()
    Image.fromarray(region).save(file, 'png')
    shape = dict(label='cat', shape_type='mask', points=[[10, 20], [16, 24]],
                 mask=base64.b64encode(file.getvalue()).decode())
    (tmp_path / 'one.json').write_text(json.dumps(dict(shapes=[shape], imagePath='one.jpg')))
    found, = read_labels(tmp_path).images[0].objects
    mask = coco_mask.decode(found.segmentation)
    assert mask.shape == (40, 60)
    assert mask.sum() == 12
    assert mask[21:24, 12:16].all()


def test_points_and_lines_are_passed_over_and_counted(tmp_path):
    write_labelme(tmp_path)
    content = json.loads((tmp_path / 'one.json').read_text())
    content['shapes'] += [dict(label='eye', shape_type='point', points=[[1, 1]])]
    (tmp_path / 'one.json').write_text(json.dumps(content))
    assert read_labels(tmp_path).passed_over == {'shapes of type point': 1}


def test_cvat_masks_run_along_the_rows_of_their_window(tmp_path):
    save_images(tmp_path / 'images')
    (tmp_path / 'annotations.xml').write_text(
        '<annotations><image id="0" name="one.jpg" width="60" height="40">'
        '<mask label="cat" rle="2,1,4,2" left="10" top="20" width="3" height="3"/></image>'
        '</annotations>')
    found, = read_labels(tmp_path).images[0].objects
    mask = coco_mask.decode(found.segmentation)
    assert np.argwhere(mask).tolist() == [[20, 12], [22, 11], [22, 12]]


def test_cvat_boxes_are_turned_by_their_rotation(tmp_path):
    save_images(tmp_path / 'images')
    (tmp_path / 'annotations.xml').write_text(
        '<annotations><image id="0" name="one.jpg" width="60" height="40">'
        '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/></image>'
        '</annotations>')
    found, = read_labels(tmp_path).images[0].objects
    assert np.allclose(found.box, (15, 5, 10, 20))


def test_images_turned_by_exif_are_measured_as_a_viewer_shows_them(tmp_path):
    save_images(tmp_path / 'images')
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(tmp_path / 'images/one.jpg')
    image.load()
    image.save(tmp_path / 'images/one.jpg', exif=exif)
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/one.txt').write_text('0 0.5 0.5 1 0.5')
    (tmp_path / 'data.yaml').write_text('names: [cat]')
    found = {i.path.name: i for i in read_labels(tmp_path).images}['one.jpg']
    assert (found.height, found.width) == (60, 40)
    assert found.objects[0].box == (0, 15, 40, 30)


def broken_yolo(text):
    def write(root):
        write_yolo(root)
        (root / 'labels/one.txt').write_text(text)
        return root
    return write


def broken_labelme(change):
    def write(root):
        write_labelme(root)
        content = json.loads((root / 'one.json').read_text())
        change(content)
        (root / 'one.json').write_text(json.dumps(content))
        return root
    return write


def broken_file(kind, name, old, new):
    def write(root):
        source = WRITERS[kind](root)
        file = source if source.is_file() else source / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        return source
    return write


@pytest.mark.parametrize('write, words', [
    (broken_yolo('0 0.5 0.5 0.1'), ('one.txt, line 1', '3 numbers')),
    (broken_yolo('\n2 0.5 0.5 0.1 0.1'), ('one.txt, line 2', 'class 2')),
    (broken_yolo('cat 0.5 0.5 0.1 0.1'), ('one.txt, line 1', 'row of numbers')),
    (broken_yolo('0 0.5 0.5 nan 0.1'), ('one.txt, line 1', 'not finite')),
    (broken_yolo('0 0.5 0.5 0 0.1'), ('one.txt, line 1', 'no area')),
    (broken_yolo('0 5 5 0.1 0.1'), ('one.txt, line 1', 'outside')),
    (broken_labelme(lambda c: c.update(imageHeight=7)), ('one.json', '60 × 7', '60 × 40')),
    (broken_labelme(lambda c: c.update(imagePath='no.jpg')), ('one.json', 'no.jpg')),
    (broken_labelme(lambda c: c['shapes'][0].pop('label')), ('one.json, shape 0', 'lacks label')),
    (broken_labelme(lambda c: c['shapes'][1].update(label=None)), ('one.json, shape 1', 'None')),
    (broken_labelme(lambda c: c['shapes'][1].update(points=[[1, 2]])), ('shape 1', 'least 3')),
    (broken_labelme(lambda c: c['shapes'][1].update(points=[[1, 2, 3]])), ('shape 1', )),
    (broken_file('voc', 'Annotations/one.xml', '<xmin>6</xmin>', ''),
     ('one.xml, object 0', 'number')),
    (broken_file('voc', 'Annotations/one.xml', '<xmin>6<', '<xmin>56<'), ('object 0', 'reversed')),
    (broken_file('voc', 'Annotations/two.xml', 'two.png', 'x.png'), ('two.xml', 'x.png')),
    (broken_file('cvat', 'annotations.xml', '5.0,5.0;', '5.0;'), ('image 0', 'shape 0', 'x,y')),
    (broken_file('cvat', 'annotations.xml', 'width="60"', 'width="61"'), ('image 0', '61 × 40')),
    (broken_file('coco', '', '"category_id": 2', '"category_id": 9'),
     ('annotation 2', 'category 9')),
    (broken_file('coco', '', '"image_id": 1', '"image_id": 8'), ('annotation 3', 'image 8')),
    (broken_file('coco', '', '"iscrowd": 0', '"iscrowd": "0"'), ('annotation 1', 'iscrowd')),
    (broken_file('coco', '', '"bbox": [5.0', '"bbox": [NaN'), ('annotation 1', 'finite')),
    (broken_file('coco', '', '"segmentation": [[5.0', '"segmentation": [["5"'), ('annotation 1', )),
    (broken_file('csv', '', 'the cat,5.0', 'the cat,left'), ('line 2', 'numbers')),
    (broken_file('csv', '', 'one.jpg,the cat', 'one.jpg,'), ('line 2', 'expression')),
    (broken_file('csv', '', '20.0,25.0', '20.0'), ('line 2', '5 values for 6 columns')),
    (broken_file('csv', '', 'two.png', 'four.png'), ('line 6', 'four.png', 'no such image')),
])
def test_a_fault_is_told_with_file_and_record(write, words, tmp_path):
    with pytest.raises(LabelError) as error:
        read_labels(write(tmp_path))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_all_faults_of_a_folder_are_told_at_once(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / 'labels/one.txt').write_text('0 1 2\n' * 30)
    with pytest.raises(LabelError, match='30 faults') as error:
        read_labels(tmp_path)
    assert '… and 10 more' in str(error.value)


def test_xml_that_names_other_files_is_refused(tmp_path):
    source = WRITERS['voc'](tmp_path)
    secret = tmp_path / 'secret.txt'
    secret.write_text('hidden')
    file = tmp_path / 'Annotations/one.xml'
    file.write_text(f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret}">]>'
                    + file.read_text().replace('>cat<', '>&x;<'))
    with pytest.raises(LabelError, match='one.xml: not valid XML'):
        read_labels(source)


def test_a_folder_without_labels_tells_what_was_looked_for(tmp_path):
    save_images(tmp_path)
    with pytest.raises(LabelError, match='Looked for coco: .* csv: '):
        read_labels(tmp_path)


def test_labels_without_any_object_are_refused(tmp_path):
    write_yolo(tmp_path)
    for file in (tmp_path / 'labels').iterdir():
        file.unlink()
    with pytest.raises(LabelError, match='no object in 3 images'):
        read_labels(tmp_path)


def test_a_video_of_cvat_is_refused_with_the_way_out(tmp_path):
    (tmp_path / 'annotations.xml').write_text('<annotations><track id="0"/></annotations>')
    with pytest.raises(LabelError, match='CVAT for images'):
        read_labels(tmp_path)
