# Objects365 v2: boxes only, 365 names of which absent ones are drawn as negatives.
_objects365 = dict(
    objects365_train=dict(
        type='Objects365Dataset',
        data_root='data/objects365',
        ann_file='annotations/zhiyuan_objv2_train.json',
        data_prefix=dict(img='train'),
        caption_store='captions/objects365_train.jsonl',
        tasks=[dict(type='DetectionTask', num_negatives=(60, 120))]),
    # The validation archives keep the folders of the published file names.
    objects365_val=dict(
        type='Objects365Dataset',
        data_root='data/objects365',
        ann_file='annotations/zhiyuan_objv2_val.json',
        data_prefix=dict(img='val'),
        path_parts=4,
        test_mode=True,
        tasks=[dict(type='DetectionTask')],
        metrics=[dict(type='CocoAPMetric', iou_types=('bbox', ))]))
