# COCO 2017 captions, five per image, of which training draws one. Images of the RefCOCO family's
# val and test splits stay out of training.
_coco_caption = dict(
    coco_caption_train=dict(
        type='CocoCaptionDataset',
        data_root='data/coco',
        ann_file='annotations/captions_train2017.json',
        data_prefix=dict(img='train2017'),
        exclude_refs=[
            '../refer/refcoco/refs(unc).p', '../refer/refcoco+/refs(unc).p',
            '../refer/refcocog/refs(umd).p'
        ],
        tasks=[dict(type='CaptionTask')]),
    coco_caption_val=dict(
        type='CocoCaptionDataset',
        data_root='data/coco',
        ann_file='annotations/captions_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        tasks=[dict(type='CaptionTask')]))
