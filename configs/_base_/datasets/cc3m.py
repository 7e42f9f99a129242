# CC3M image-caption pairs in LLaVA's pre-training JSON (stage 1).
_cc3m = dict(
    type='CaptionDataset',
    data_root='data/cc3m',
    ann_file='chat.json',
    data_prefix=dict(img='images'),
    tasks=[dict(type='CaptionTask')])
