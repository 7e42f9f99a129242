# Newer benchmarks of referring expressions, one sample per sentence.
_reason_seg = {
    f'reason_seg_{_split}': dict(
        # Sentences that ask for reasoning.
        type='ReasonSegDataset',
        data_root='data/ReasonSeg',
        data_prefix=dict(img=_split),
        test_mode=True,
        tasks=[dict(type='ReferringSegmentationTask')],
        metrics=[dict(type='ReferringMetric')])
    for _split in ('val', 'test')
}
_refer_more = dict(
    **_reason_seg,
    reason_seg_train=dict(
        type='ReasonSegDataset',
        data_root='data/ReasonSeg',
        data_prefix=dict(img='train'),
        tasks=[dict(type='ReferringSegmentationTask', response='none')]),
    # RefCOCO's validation split with masks drawn anew.
    refcoco_m_val=dict(
        type='RefCocoMDataset',
        data_root='data/refer',
        ann_file='refcoco_m/validation.jsonl',
        data_prefix=dict(img='train2014'),
        test_mode=True,
        tasks=[dict(type='ReferringSegmentationTask')],
        metrics=[dict(type='ReferringMetric')]),
    # Boxes among hard distractors.
    ref_adv_s=dict(
        type='RefAdvDataset',
        data_root='data/ref_adv',
        ann_file='ref_adv_s.jsonl',
        data_prefix=dict(img='images'),
        test_mode=True,
        tasks=[dict(type='ReferringComprehensionTask')],
        metrics=[dict(type='ReferringMetric', targets=('box', ))]))
