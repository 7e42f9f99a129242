# Copyright (c) mvp_mm authors. All rights reserved.
"""Miniature copies of the published datasets' folder trees, with their real key names.

Every tree holds the files that the configs of ``configs/_base_/datasets`` name, so that a config
works on it when its ``data_root`` alone is changed.
"""
from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvp_mm.datasets.captions.sources import manifest_path
from mvp_mm.engine import load_datasets
from tests.helpers import ROOT
from tests.test_datasets.small_data import BOXES, HEIGHT, WIDTH, rectangle, write_json

CONFIGS = ROOT / 'configs' / '_base_' / 'datasets.py'
REF_KEYS = dict(category_id=1, file_name='COCO_train2014_000000000001.jpg')


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def segment_png(path: Path, ids: list[int]) -> None:
    """A panoptic map whose segments are BOXES."""
    segments = np.zeros((HEIGHT, WIDTH), dtype=np.uint32)
    for (x, y, w, h), number in zip(BOXES, ids, strict=False):
        segments[y:y + h, x:x + w] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([segments & 255, segments >> 8 & 255, segments >> 16], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


def value_png(path: Path, values: list[int], rest: int, palette: bool = False) -> None:
    """A map of class values: BOXES have ``values``, the other pixels ``rest``."""
    array = np.full((HEIGHT, WIDTH), rest, dtype=np.uint8)
    for (x, y, w, h), value in zip(BOXES, values, strict=False):
        array[y:y + h, x:x + w] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = image.convert('P')
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
        image.putdata(array.flatten().tolist())
    image.save(path)


def image_record(file_name: str, number: int | str = 1, **more: Any) -> dict:
    return dict(id=number, file_name=file_name, height=HEIGHT, width=WIDTH, **more)


def segments_info(ids: list[int], category_ids: list[int]) -> list[dict]:
    return [dict(id=number, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0)
            for number, category, box in zip(ids, category_ids, BOXES, strict=False)]


def objects(category_ids: list[int], image_id: int | str = 1, masks: bool = True,
            first: int = 10) -> list[dict]:
    """Annotations with BOXES."""
    return [dict(id=first + k, image_id=image_id, category_id=category, bbox=BOXES[k],
                 area=BOXES[k][2] * BOXES[k][3], iscrowd=0,
                 **(dict(segmentation=rectangle(BOXES[k])) if masks else {}))
            for k, category in enumerate(category_ids)]


def write_coco(root: Path) -> None:
    """Image 1 is for training, image 2 stands in a RefCOCO test split, image 3 is for val."""
    categories = [dict(id=1, name='person', supercategory='person'),
                  dict(id=18, name='dog', supercategory='animal')]
    stuff = dict(id=187, name='sky-other-merged', supercategory='sky', isthing=0)
    for split, numbers in (('train', (1, 2)), ('val', (3,))):
        names = {n: f'{n:012d}' for n in numbers}
        images = [image_record(f'{names[n]}.jpg', n) for n in numbers]
        for n in numbers:
            picture(root / f'{split}2017' / f'{names[n]}.jpg')
            segment_png(root / f'annotations/panoptic_{split}2017/{names[n]}.png',
                        [3226956, 7, 66000, 255])
        write_json(root / f'annotations/panoptic_{split}2017.json', dict(
            images=images, categories=[dict(c, isthing=1) for c in categories] + [stuff],
            annotations=[dict(image_id=n, file_name=f'{names[n]}.png', segments_info=segments_info(
                [3226956, 7, 66000, 255], [1, 1, 18, 187])) for n in numbers]))
        write_json(root / f'annotations/instances_{split}2017.json', dict(
            images=images, categories=categories,
            annotations=[a for n in numbers for a in objects([1, 1, 18], n, first=10 * n)]))
        write_json(root / f'annotations/captions_{split}2017.json', dict(
            images=images, annotations=[
                dict(id=10 * n + k, image_id=n, caption=f'A person walks {k} dogs in a park .')
                for n in numbers for k in range(5)]))
        write_lvis(root, split, images)
    write_captions(root / 'captions/coco_train2017.jsonl', ['000000000001.jpg', '000000000002.jpg'])


def write_lvis(root: Path, split: str, images: list[dict]) -> None:
    """The validation file has images without ``file_name``, of both COCO folders."""
    records = [dict(id=image['id'], height=HEIGHT, width=WIDTH, license=1, flickr_url='',
                    coco_url=f'http://images.cocodataset.org/{split}2017/{image["file_name"]}',
                    date_captured='', neg_category_ids=[3, 5], not_exhaustive_category_ids=[2])
               for image in images]
    names = ('person', 'dog', 'bat_(animal)', 'sky', 'trash_can')
    categories = [dict(id=k, name=name, frequency='f', synonyms=[name], synset='', image_count=1,
                       instance_count=1, **{'def': ''}) for k, name in enumerate(names, 1)]
    annotations = [{k: v for k, v in a.items() if k != 'iscrowd'}
                   for image in images for a in objects([1, 1, 2], image['id'],
                                                        first=10 * image['id'])]
    write_json(root / f'annotations/lvis_v1_{split}.json', dict(
        info={}, licenses=[], images=records, categories=categories, annotations=annotations))


def write_captions(path: Path, names: list[str]) -> None:
    caption = dict(captioner='human', caption='A person walks two dogs in a green park.')
    write_json(manifest_path(path), dict(captioners=['human']))
    path.write_text(''.join(
        json.dumps(dict(image=name, captions=[caption])) + '\n' for name in names))


def reference(number: int, image_id: int, split: str, ann_id: Any, sentences: list[str],
              **more: Any) -> dict:
    return dict(
        REF_KEYS, ref_id=number, image_id=image_id, split=split, ann_id=ann_id,
        sent_ids=[10 * number + k for k in range(len(sentences))],
        sentences=[dict(sent_id=10 * number + k, sent=text, raw=text.title(), tokens=text.split())
                   for k, text in enumerate(sentences)], **more)


def write_refer(root: Path) -> None:
    """RefCOCO and the like on two COCO images, gRefCOCO beside them."""
    images = [image_record(f'COCO_train2014_{n:012d}.jpg', n) for n in (1, 2)]
    for image in images:
        picture(root / 'train2014' / image['file_name'])
    instances = dict(images=images, categories=[dict(id=1, name='person')], annotations=[
        a for n in (1, 2) for a in objects([1, 1, 1], n, first=10 * n)])
    splits = {('refcoco', 'unc'): ('val', 'testA', 'testB'), ('refcoco+', 'unc'):
              ('val', 'testA', 'testB'), ('refcocog', 'umd'): ('val', 'test'),
              ('refcocog', 'google'): ('val',)}
    for (name, author), held_out in splits.items():
        refs = [reference(1, 1, 'train', 10, ['the left one', 'person on left'])]
        refs += [reference(2 + k, 2, split, 20, ['man in red', 'man', 'red shirt'])
                 for k, split in enumerate(held_out)]
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f'refs({author}).p').write_bytes(pickle.dumps(refs, protocol=2))
        write_json(root / name / 'instances.json', instances)
    write_json(root / 'grefcoco/instances.json', instances)
    write_json(root / 'grefcoco/grefs(unc).json', [
        reference(k, image, split, ann, [text], no_target=ann == [-1])
        for k, (image, split, ann, text) in enumerate(
            [(1, 'train', [10, 11], 'both people'), (1, 'train', [-1], 'a green horse')]
            + [(2, split, ann, text) for split in ('val', 'testA', 'testB')
               for ann, text in (([20, 21, 22], 'everybody'), ([-1], 'the cow'))])])
    write_captions(root / 'captions/coco_train2014.jsonl', [i['file_name'] for i in images])


def write_objects365(root: Path) -> None:
    """One good image, one that no archive holds; names with the published mistakes."""
    names = {'train': ('images/v1/patch8/objects365_v1_00420917.jpg',
                       'images/v1/patch6/objects365_v1_00320532.jpg'),
             'val': ('images/v2/patch16/objects365_v2_00908727.jpg',)}
    picture(root / 'train/patch8/objects365_v1_00420917.jpg')
    picture(root / 'val' / names['val'][0])
    categories = [dict(id=1, name='Person'), dict(id=38, name='Moniter/TV'),
                  dict(id=365, name='Table Tennis ')]
    for split, files in names.items():
        annotations = [dict(a, isfake=0, isreflected=0)
                       for n in range(len(files))
                       for a in objects([1, 38, 365], n + 5, masks=False, first=10 * n)]
        write_json(root / f'annotations/zhiyuan_objv2_{split}.json', dict(
            images=[image_record(name, n + 5, license=5, url='') for n, name in enumerate(files)],
            categories=categories, annotations=annotations, licenses=[]))
    write_captions(root / 'captions/objects365_train.jsonl', ['objects365_v1_00420917.jpg'])
    write_json(root / 'annotations/o365v2_label_map.json', {'0': 'person', '1': 'monitor/tv'})
    write_lines(root / 'annotations/o365v2_train_odvg.jsonl', [dict(
        filename='patch8/objects365_v1_00420917.jpg', height=HEIGHT, width=WIDTH,
        detection=dict(instances=[dict(bbox=[2, 12, 8, 17], label=0, category='person'),
                                  dict(bbox=[10, 12, 18, 18], label=1, category='monitor/tv'),
                                  dict(bbox=[40, 12, 48, 18], label=1, category='monitor/tv')]))])


def write_lines(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def write_goldg(root: Path) -> None:
    """Flickr30k and GQA; one box of two phrases' spans, one without a phrase."""
    caption = 'Two people walk a dog .'
    spans = [[[0, 10]], [[16, 21]], []]
    picture(root / 'gqa/images/2354786.jpg')
    picture(root / 'flickr30k/images/1000092795.jpg')
    for name, image, source in (
            ('final_mixed_train_no_coco', '2354786.jpg', 'vg'),
            ('final_flickr_separateGT_train', '1000092795.jpg', None),
            ('final_flickr_separateGT_val', '1000092795.jpg', None)):
        record = image_record(image, 0, caption=caption, dataset_name='mixed', original_id=7,
                              tokens_negative=[[0, len(caption)]])
        if source:
            record['data_source'] = source
        annotations = [dict(a, tokens_positive=span) for a, span in zip(
            objects([1, 1, 1], 0, masks=False), spans, strict=True)]
        write_json(root / f'annotations/{name}.json', dict(
            info=[], licenses=[], images=[record], annotations=annotations,
            categories=[dict(id=1, name='object', supercategory='object')]))
    write_lines(root / 'annotations/final_flickr_separateGT_train_vg.json', [dict(
        filename='1000092795.jpg', height=HEIGHT, width=WIDTH, grounding=dict(
            caption=caption, regions=[
                dict(bbox=[[2, 12, 8, 17], [10, 12, 18, 18]], phrase='Two people',
                     tokens_positive=[[0, 10]]),
                dict(bbox=[20, 12, 28, 20], phrase='a dog', tokens_positive=[[16, 21]])]))])


def write_cc3m(root: Path) -> None:
    picture(root / 'images/00000/000000012.jpg')
    turns = [{'from': 'human', 'value': 'Give a brief description of the image.\n<image>'},
             {'from': 'gpt', 'value': 'a dog runs along the beach'}]
    write_json(root / 'chat.json', [
        dict(id='000000012', image='00000/000000012.jpg', conversations=turns)])


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_tars(root: Path) -> None:
    """Two shards as img2dataset writes them; one sample failed and has no image."""
    root.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        with tarfile.open(root / f'{shard:05d}.tar', 'w') as tar:
            for k in range(3):
                key = f'{shard:05d}{k:04d}'
                stream = io.BytesIO()
                colour = (40 * k, 100 * shard, 200)
                Image.new('RGB', (WIDTH, HEIGHT), colour).save(stream, 'PNG')
                if (shard, k) != (1, 2):
                    add_member(tar, f'{key}.png', stream.getvalue())
                add_member(tar, f'{key}.txt', f'picture {k} of shard {shard}'.encode())
                add_member(tar, f'{key}.json', json.dumps(dict(key=key, status='success')).encode())


WRITERS = dict(
    coco=write_coco, refer=write_refer, objects365=write_objects365, goldg=write_goldg,
    cc3m=write_cc3m, cc3m_tars=write_tars)


def write_all(root: Path) -> None:
    """All trees, each in the folder that its configs call ``data/<folder>``."""
    # They are written with the functions of this module.
    from tests.test_datasets.miniature_benchmarks import BENCHMARK_WRITERS
    from tests.test_datasets.miniature_maps import MAP_WRITERS

    for folder, writer in (*WRITERS.items(), *MAP_WRITERS, *BENCHMARK_WRITERS):
        writer(root / folder)


def entries() -> dict[str, dict]:
    """The datasets of ``configs/_base_/datasets.py`` by name: those of published layouts."""
    return {name: cfg for name, cfg in load_datasets(CONFIGS).items()
            if not name.startswith(('syn_', 'own_'))}


def moved(cfg: dict, root: Path) -> dict:
    """The config with another ``data_root``, and nothing else changed."""
    return dict(cfg, data_root=str(root / Path(cfg['data_root']).relative_to('data')))
