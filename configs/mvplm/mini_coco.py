# Real files, small: fits 8 COCO panoptic images and the RefCOCO images with their sentences, and
# is tested on those same images. It shows that real formats flow and that the model can fit; it
# is not a result. Two processes with 2 images each. Needs the sample data's folder in
# MVP_MM_SAMPLE_DATA (default: ../shared/data).
_base_ = ['./stage2.py', '../_base_/models/tiny_sizes.py']
load_from = None
total_batch_size = None

_root = '{{$MVP_MM_SAMPLE_DATA:../shared/data}}'
_canvas = (256, 256)
_tokenizer = dict(
    type='InstructionTokenizer', path=f'{_root}/gpt2_bpe', num_visual_tokens=64, max_length=768)
_sizes = _base_._tiny_sizes
_sizes.llm.config.update(vocab_size=50304, max_position_embeddings=768)
_sizes.tokenizer = _tokenizer
_sizes.perception.update(num_stuff_queries=16)
_sizes.perception.query_generator.num_queries = 48
_sizes.perception.denoising.num_queries = 48
_sizes.perception.criterion.num_points = 4096
model = _sizes

_max_iters = 900
optim_wrapper = dict(dtype=None, optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=50, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
default_hooks = dict(
    checkpoint=dict(interval=_max_iters),
    visualization=dict(type='PerceptionVisualizationHook', interval=4))

_load = [
    dict(type='LoadImage'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
    dict(type='PadToCanvas', size=_canvas),
]
_train_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True), *_load,
    dict(type='PackPerceptionInputs')
]
_test_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=False), *_load,
    dict(type='PackPerceptionInputs', with_eval=True)
]
# Two of the RefCOCO images have captions; the others' responses hold the result alone.
_answer = dict(missing_caption='none')
_panoptic = dict(
    type='CocoPanopticDataset',
    data_root=f'{_root}/coco',
    ann_file='annotations/panoptic_train2017.json',
    data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
    caption_store='annotations/captions_train2017.json',
    index_dir='data/indices',
    indices=8)
# The three images stand in the val and test splits of the three data sets.
_sentences = [
    dict(
        type='RefCocoDataset',
        data_root=f'{_root}/refer',
        ann_file=f'{_name}/refs({_by}).p',
        instances_file=f'{_name}/instances.json',
        split=_split,
        caption_store='../coco/annotations/captions_train2017.json',
        index_dir='data/indices',
        data_prefix=dict(img='train2014'))
    for _name, _by, _splits in (('refcoco', 'unc', ('val', 'testA', 'testB')),
                                ('refcoco+', 'unc', ('val', 'testA', 'testB')),
                                ('refcocog', 'umd', ('val', ))) for _split in _splits
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(ratios=[7, 1, 1, 1, 1, 1, 1, 1]),
    dataset=dict(datasets=[
        dict(**_panoptic, tasks=[dict(type='PanopticTask', **_answer)], pipeline=_train_pipeline),
        *[
            dict(
                **_dataset,
                tasks=[dict(type='ReferringSegmentationTask', max_per_image=8, **_answer)],
                pipeline=_train_pipeline) for _dataset in _sentences
        ]
    ]))

_test_loader = dict(
    batch_size=1,
    num_workers=0,
    collate_fn=dict(type='perception_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
test_dataloader = dict(
    _delete_=True,
    panoptic=dict(
        **_test_loader,
        dataset=dict(
            **_panoptic, test_mode=True, tasks=[dict(type='PanopticTask')],
            pipeline=_test_pipeline)),
    refcoco=dict(
        **_test_loader,
        dataset=dict(
            type='ConcatDataset',
            ignore_keys=['classes', 'thing_flags'],
            datasets=[
                dict(
                    **_dataset,
                    test_mode=True,
                    tasks=[dict(type='ReferringSegmentationTask', num_candidates=100)],
                    pipeline=_test_pipeline) for _dataset in _sentences
            ])))

inferencer = dict(
    pipeline=[
        dict(type='TokenizeRequests', tokenizer=_tokenizer),
        dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
        dict(type='PadToCanvas', size=_canvas),
        dict(type='PackPerceptionInputs'),
    ])
