# Copyright (c) mvp_mm authors. All rights reserved.
# The benchmarks by the names of their figures: data and metrics alone.
_joined_or_not = {
    f'{_name}_{_split}{_end}': f'{_name.replace("+", "_plus")}_{_split}{_end}'
    for _end in ('', '_joined')
    for _name, _splits in (('refcoco', ('val', 'testA', 'testB')),
                           ('refcoco+', ('val', 'testA', 'testB')),
                           ('refcocog', ('val', 'test'))) for _split in _splits
}
_benchmark_names = dict(
    # PQ and mIoU from one forward pass, of COCO also AP on the panoptic segments.
    coco_panoptic='coco_panoptic_val',
    ade20k='ade20k_panoptic_val',
    cityscapes='cityscapes_panoptic_val',
    coco_instance='coco_instance_val',
    ade20k_instance='ade20k_instance_val',
    cityscapes_instance='cityscapes_instance_val',
    pascal_context59='pascal_context_val',
    pascal_voc20='pascal_voc_val',
    lvis='lvis_val',
    # Masks (RES) and boxes (REC) of one sentence per sample, and of a reference's sentences joined.
    **_joined_or_not,
    grefcoco_val='grefcoco_val',
    grefcoco_testA='grefcoco_testA',
    grefcoco_testB='grefcoco_testB',
    flickr30k='flickr30k_val')
_benchmarks = {_name: dict(dataset=_data) for _name, _data in _benchmark_names.items()}
_benchmark_datasets = dict(lvis_val=dict(
    listed='all', tasks=[dict(type='InstanceTask', max_instances=300)]))
