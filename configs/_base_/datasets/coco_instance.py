# COCO 2017 instances. Images of the RefCOCO family's val and test splits stay out of training.
_coco_instance = dict(
    coco_instance_train=dict(
        type='CocoInstanceDataset',
        data_root='data/coco',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        caption_store='captions/coco_train2017.jsonl',
        exclude_refs=[
            '../refer/refcoco/refs(unc).p', '../refer/refcoco+/refs(unc).p',
            '../refer/refcocog/refs(umd).p'
        ],
        tasks=[dict(type='InstanceTask')]),
    coco_instance_val=dict(
        type='CocoInstanceDataset',
        data_root='data/coco',
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        tasks=[dict(type='InstanceTask')],
        metrics=[dict(type='CocoAPMetric')]))
