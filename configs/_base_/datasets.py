# Copyright (c) mvp_mm authors. All rights reserved.
# Every dataset by its public name; data loaders name them, configs and the command line override
# them (`datasets.refcoco_train.data_root`).
_base_ = [
    'datasets/ade20k.py', 'datasets/cc3m.py', 'datasets/cityscapes.py',
    'datasets/coco_caption.py', 'datasets/coco_instance.py', 'datasets/coco_panoptic.py',
    'datasets/coco_stuff.py', 'datasets/goldg.py', 'datasets/grefcoco.py', 'datasets/lvis.py',
    'datasets/objects365.py', 'datasets/odinw.py', 'datasets/odvg.py', 'datasets/own.py',
    'datasets/pascal_context.py', 'datasets/pascal_voc.py', 'datasets/refcoco.py',
    'datasets/refer_more.py', 'datasets/synthetic.py'
]

datasets = dict(
    **_base_._ade20k, **_base_._cc3m, **_base_._cityscapes, **_base_._coco_caption,
    **_base_._coco_instance, **_base_._coco_panoptic, **_base_._coco_stuff, **_base_._goldg,
    **_base_._grefcoco, **_base_._lvis, **_base_._objects365, **_base_._odinw, **_base_._odvg,
    **_base_._own, **_base_._pascal_context, **_base_._pascal_voc, **_base_._refcoco,
    **_base_._refer_more, **_base_._synthetic)
