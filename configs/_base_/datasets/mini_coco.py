# The sample data: real COCO and RefCOCO files of a handful of images, in MVP_MM_SAMPLE_DATA
# (default: ../shared/data). Some of the images have captions; the others' responses hold the
# result alone.
_mini_root = '{{$MVP_MM_SAMPLE_DATA:../shared/data}}'
_mini_panoptic = dict(
    type='CocoPanopticDataset',
    data_root=f'{_mini_root}/coco',
    ann_file='annotations/panoptic_train2017.json',
    data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
    caption_store='annotations/captions_train2017.json',
    index_dir='data/indices',
    indices=8)
# The three images stand in the val and test splits of the three datasets.
_mini_sentences = {
    f'mini_{_name}_{_split}': dict(
        type='RefCocoDataset',
        data_root=f'{_mini_root}/refer',
        ann_file=f'{_folder}/refs({_by}).p',
        instances_file=f'{_folder}/instances.json',
        split=_split,
        caption_store='../coco/annotations/captions_train2017.json',
        index_dir='data/indices',
        data_prefix=dict(img='train2014'))
    for _name, _folder, _by, _splits in (
        ('refcoco', 'refcoco', 'unc', ('val', 'testA', 'testB')),
        ('refcoco_plus', 'refcoco+', 'unc', ('val', 'testA', 'testB')),
        ('refcocog', 'refcocog', 'umd', ('val', ))) for _split in _splits
}
_mini_coco = dict(
    mini_panoptic=dict(
        _mini_panoptic, tasks=[dict(type='PanopticTask', missing_caption='none')]),
    mini_panoptic_test=dict(
        _mini_panoptic, test_mode=True, tasks=[dict(type='PanopticTask')],
        metrics=[
            dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric'),
            dict(type='CocoAPMetric')
        ]),
    **{
        _name: dict(_cfg, tasks=[
            dict(type='ReferringSegmentationTask', max_per_image=8, missing_caption='none')])
        for _name, _cfg in _mini_sentences.items()
    },
    mini_referring_test=dict(
        type='ConcatDataset',
        ignore_keys=['classes', 'thing_flags'],
        datasets=[
            dict(_cfg, test_mode=True,
                 tasks=[dict(type='ReferringSegmentationTask', num_candidates=100)])
            for _cfg in _mini_sentences.values()
        ],
        metrics=[dict(type='ReferringMetric')]))

# All of it, trained on and tested apart: COCO's validation images, and the sentences of one image
# (154), which no dataset of training shows. Lists are short in training: time on a CPU.
_mini_unseen = [
    '../refer/refcoco/refs(unc).p', '../refer/refcoco+/refs(unc).p',
    '../refer/refcocog/refs(umd).p'
]
_mini_list = dict(num_negatives=(15, 30), missing_caption='none')
_mini_whole = dict(
    mini_panoptic_train=dict(
        _mini_panoptic, indices=None, exclude_refs=_mini_unseen,
        caption_store=None, tasks=[dict(type='PanopticTask', **_mini_list)]),
    mini_instance_train=dict(
        type='CocoInstanceDataset', data_root=f'{_mini_root}/coco', exclude_refs=_mini_unseen,
        data_prefix=dict(img='train2017'),
        ann_file='annotations/instances_train2017.json',
        caption_store='annotations/captions_train2017.json', index_dir='data/indices',
        tasks=[dict(type='InstanceTask', **_mini_list)]),
    mini_panoptic_val=dict(
        _mini_coco['mini_panoptic_test'], indices=None, caption_store=None,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017')),
    **{
        _name: dict(_cfg, tasks=[
            dict(type='ReferringSegmentationTask', max_per_image=4, missing_caption='none')])
        for _name, _cfg in _mini_sentences.items() if not _name.endswith('testB')
    },
    mini_referring_val=dict(
        _mini_coco['mini_referring_test'],
        datasets=[
            _cfg for _cfg in _mini_coco['mini_referring_test']['datasets']
            if _cfg['split'] == 'testB'
        ]))
# The sentences are about two images: an eighth of the images drawn.
_mini_mix = dict(
    mini_panoptic_train=16, mini_instance_train=12, mini_refcoco_val=1, mini_refcoco_testA=1,
    mini_refcoco_plus_val=1, mini_refcocog_val=1)
