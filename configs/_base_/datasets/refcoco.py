# RefCOCO, RefCOCO+ (UNC splits) and RefCOCOg (UMD split), in the REFER toolkit's layout.
_refcoco = dict(
    type='RefCocoDataset',
    data_root='data/refer',
    data_prefix=dict(img='train2014'),
    caption_store='captions/coco_train2014.json',
    tasks=[dict(type='ReferringSegmentationTask', max_per_image=4)])
_refcoco_train = [
    dict(_refcoco, ann_file=f'{_name}/refs({_by}).p', split='train',
         instances_file=f'{_name}/instances.json')
    for _name, _by in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd'))
]
# One sample a sentence, the field's protocol.
_refcoco_val = dict(
    _refcoco,
    ann_file='refcoco/refs(unc).p',
    instances_file='refcoco/instances.json',
    split='val',
    caption_store=None,
    test_mode=True,
    tasks=[dict(type='ReferringSegmentationTask')])
