# Objects365 v2: boxes only, 365 names of which absent ones are drawn as negatives.
_objects365_train = dict(
    type='BoxDetectionDataset',
    data_root='data/objects365',
    ann_file='annotations/zhiyuan_objv2_train.json',
    data_prefix=dict(img='train'),
    caption_store='captions/objects365_train.json',
    tasks=[dict(type='DetectionTask', num_negatives=(60, 120))])
