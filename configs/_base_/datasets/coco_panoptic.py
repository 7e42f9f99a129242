# COCO 2017 panoptic. Images of the RefCOCO family's val and test splits stay out of training.
_coco_panoptic = dict(
    coco_panoptic_train=dict(
        type='CocoPanopticDataset',
        data_root='data/coco',
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
        caption_store='captions/coco_train2017.jsonl',
        exclude_refs=[
            '../refer/refcoco/refs(unc).p', '../refer/refcoco+/refs(unc).p',
            '../refer/refcocog/refs(umd).p'
        ],
        tasks=[dict(type='PanopticTask')]),
    # PQ and mIoU from one forward pass, and AP on the panoptic segments.
    coco_panoptic_val=dict(
        type='CocoPanopticDataset',
        data_root='data/coco',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017'),
        test_mode=True,
        tasks=[dict(type='PanopticTask')],
        metrics=[
            dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric'),
            dict(type='CocoAPMetric')
        ]))
