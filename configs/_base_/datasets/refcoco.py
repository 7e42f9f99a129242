# RefCOCO, RefCOCO+ (UNC splits) and RefCOCOg (UMD split; `google` by its other authors, over
# objects and without a test part), in the REFER toolkit's layout.
_refcoco_files = dict(
    refcoco=('refcoco', 'unc', ('val', 'testA', 'testB')),
    refcoco_plus=('refcoco+', 'unc', ('val', 'testA', 'testB')),
    refcocog=('refcocog', 'umd', ('val', 'test')),
    refcocog_google=('refcocog', 'google', ('val', )))
_refcoco_train = {
    f'{_name}_train': dict(
        type='RefCocoDataset',
        data_root='data/refer',
        ann_file=f'{_folder}/refs({_by}).p',
        instances_file=f'{_folder}/instances.json',
        split='train',
        data_prefix=dict(img='train2014'),
        caption_store='captions/coco_train2014.jsonl',
        # A sample is one question about an image (paper section 3.2).
        tasks=[dict(type='ReferringSegmentationTask', max_per_image=1)])
    for _name, (_folder, _by, _) in _refcoco_files.items()
}
# Every evaluation split, one sample per sentence: the field's protocol.
_refcoco_eval = {
    f'{_name}_{_split}': dict(
        _refcoco_train[f'{_name}_train'],
        split=_split,
        caption_store=None,
        test_mode=True,
        tasks=[dict(type='ReferringSegmentationTask')],
        metrics=[dict(type='ReferringMetric')])
    for _name, (_, _, _splits) in _refcoco_files.items() for _split in _splits
}
# One sample per reference, all its sentences joined, as some published figures are taken; and
# boxes from the box head (REC).
_refcoco_protocols = dict(
    joined=dict(type='ReferringSegmentationTask', join_sentences=True),
    boxes=dict(type='ReferringComprehensionTask'))
_refcoco = dict(
    **_refcoco_train, **_refcoco_eval, **{
        f'{_name}_{_protocol}': dict(_cfg, tasks=[_task])
        for _protocol, _task in _refcoco_protocols.items() for _name, _cfg in _refcoco_eval.items()
    })
