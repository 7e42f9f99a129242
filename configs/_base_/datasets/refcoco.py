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
# RefCOCOg by its other authors: the split is over objects, and it has no test part.
_refcocog_google_train = dict(
    _refcoco, ann_file='refcocog/refs(google).p', split='train',
    instances_file='refcocog/instances.json')

# Every evaluation split, one sample a sentence: the field's protocol.
_refcoco_eval = {
    f'{_name}_{_split}' if _by != 'google' else f'{_name}_google_{_split}': dict(
        _refcoco,
        ann_file=f'{_name}/refs({_by}).p',
        instances_file=f'{_name}/instances.json',
        split=_split,
        caption_store=None,
        test_mode=True,
        tasks=[dict(type='ReferringSegmentationTask')])
    for _name, _by, _splits in (('refcoco', 'unc', ('val', 'testA', 'testB')),
                                ('refcoco+', 'unc', ('val', 'testA', 'testB')),
                                ('refcocog', 'umd', ('val', 'test')),
                                ('refcocog', 'google', ('val', ))) for _split in _splits
}
_refcoco_val = _refcoco_eval['refcoco_val']
# One sample a reference, all its sentences joined, as some published figures are taken.
_refcoco_eval_joined = {
    _key: dict(_cfg, tasks=[dict(type='ReferringSegmentationTask', join_sentences=True)])
    for _key, _cfg in _refcoco_eval.items()
}
# Boxes from the box head (REC).
_refcoco_eval_boxes = {
    _key: dict(_cfg, tasks=[dict(type='ReferringComprehensionTask')])
    for _key, _cfg in _refcoco_eval.items()
}
_refcoco_evaluator = [dict(type='ReferringMetric')]
