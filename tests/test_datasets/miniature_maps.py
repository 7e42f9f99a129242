# Copyright (c) mvp_mm authors. All rights reserved.
"""Miniature trees of datasets of segmentation maps; see :mod:`tests.test_datasets.miniature`."""
from __future__ import annotations

from pathlib import Path

from tests.test_datasets.miniature import (
    image_record,
    objects,
    picture,
    segment_png,
    segments_info,
    value_png,
    write_captions,
)
from tests.test_datasets.small_data import write_json


def write_ade20k(root: Path) -> None:
    """Names with synonyms and the trailing space that the published file has."""
    categories = [dict(id=k, name=name, isthing=int(k in (12, 8)), color=[k, 0, 0])
                  for k, name in ((0, 'wall'), (6, 'road, route'), (12, 'person'), (8, 'window '))]
    for split, folder in (('train', 'training'), ('val', 'validation')):
        name = f'ADE_{split}_00000001'
        picture(root / 'images' / folder / f'{name}.jpg')
        value_png(root / 'annotations' / folder / f'{name}.png', [13, 13, 7, 1], 0)
        segment_png(root / f'ade20k_panoptic_{split}' / f'{name}.png', [1, 2, 3, 4])
        images = [image_record(f'{name}.jpg', name)]
        write_json(root / f'ade20k_panoptic_{split}.json', dict(
            images=images, categories=categories, annotations=[dict(
                image_id=name, file_name=f'{name}.png',
                segments_info=segments_info([1, 2, 3, 4], [12, 8, 6, 0]))]))
        write_json(root / f'ade20k_instance_{split}.json', dict(
            images=[image_record(f'{name}.jpg', 1)], annotations=objects([1, 3, 1]),
            categories=[dict(id=3, name='person'), dict(id=1, name='window ')]))
    write_captions(root / 'captions/ade20k_train.jsonl', ['ADE_train_00000001.jpg'])


def write_cityscapes(root: Path) -> None:
    categories = [dict(id=7, name='road', color=[0, 0, 0], supercategory='flat', isthing=0),
                  dict(id=24, name='person', color=[0, 0, 0], supercategory='human', isthing=1),
                  dict(id=26, name='car', color=[0, 0, 0], supercategory='vehicle', isthing=1)]
    for split, city in (('train', 'aachen'), ('val', 'frankfurt')):
        name = f'{city}_000000_000294'
        picture(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png')
        truth = root / 'gtFine' / split / city
        value_png(truth / f'{name}_gtFine_labelIds.png', [24, 24, 26, 7], 3)
        value_png(truth / f'{name}_gtFine_labelTrainIds.png', [11, 11, 13, 0], 255)
        ids = [24000, 24001, 26000, 7]
        segment_png(root / f'gtFine/cityscapes_panoptic_{split}/{name}_gtFine_panoptic.png', ids)
        write_json(root / f'gtFine/cityscapes_panoptic_{split}.json', dict(
            images=[image_record(f'{name}_gtFine_leftImg8bit.png', name)], categories=categories,
            annotations=[dict(image_id=name, file_name=f'{name}_gtFine_panoptic.png',
                              segments_info=segments_info(ids, [24, 24, 26, 7]))]))
        write_json(root / f'annotations/instancesonly_filtered_gtFine_{split}.json', dict(
            images=[image_record(f'{city}/{name}_leftImg8bit.png', 0, segm_file='')],
            annotations=objects([24, 24, 26], 0), categories=categories[1:]))
    write_captions(root / 'captions/cityscapes_train.jsonl',
                   ['aachen_000000_000294_leftImg8bit.png',
                    'aachen_000000_000294_gtFine_leftImg8bit.png'])


def write_voc(root: Path) -> None:
    voc, context = root / 'VOC2012', root / 'VOC2010'
    picture(voc / 'JPEGImages/2007_000033.jpg')
    value_png(voc / 'SegmentationClass/2007_000033.png', [1, 1, 20, 255], 0, palette=True)
    (voc / 'ImageSets/Segmentation').mkdir(parents=True)
    (voc / 'ImageSets/Segmentation/val.txt').write_text('2007_000033\n')
    picture(context / 'JPEGImages/2008_000002.jpg')
    value_png(context / 'SegmentationClassContext/2008_000002.png', [1, 2, 59, 54], 0)
    value_png(context / 'annotations_detectron2/pc59_val/2008_000002.png', [0, 20, 58, 55], 255)
    (context / 'ImageSets/SegmentationContext').mkdir(parents=True)
    for name in ('ImageSets/SegmentationContext/val.txt', 'pascalcontext_val.txt'):
        (context / name).write_text('2008_000002\n')


MAP_WRITERS = (('ADEChallengeData2016', write_ade20k), ('cityscapes', write_cityscapes),
               ('VOCdevkit', write_voc))
