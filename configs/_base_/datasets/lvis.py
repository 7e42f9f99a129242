# LVIS v1 on COCO's images, for open-vocabulary evaluation over the names that are known to be
# present or absent in each image.
_lvis = dict(
    lvis_val=dict(
        type='LvisDataset',
        data_root='data/coco',
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(img=''),
        listed='verified',
        test_mode=True,
        tasks=[dict(type='InstanceTask')],
        metrics=[dict(type='LvisAPMetric')]),
    lvis_train=dict(
        type='LvisDataset',
        data_root='data/coco',
        ann_file='annotations/lvis_v1_train.json',
        data_prefix=dict(img=''),
        listed='verified',
        caption_store='captions/coco_train2017.jsonl',
        exclude_refs=[
            '../refer/refcoco/refs(unc).p', '../refer/refcoco+/refs(unc).p',
            '../refer/refcocog/refs(umd).p'
        ],
        tasks=[dict(type='InstanceTask')]))
