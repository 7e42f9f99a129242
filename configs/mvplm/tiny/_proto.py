_base_ = ['../../_base_/models/mvplm_swin-b_phi-1.5.py','../../_base_/schedules/stage2.py', '../../_base_/default_runtime.py']
_size=(128,128)
_root='data/synthetic'
_tokenizer = dict(type='InstructionTokenizer', path='data/synthetic/tokenizer', num_visual_tokens=16, max_length=256)
model=dict(embed_dims=128,
    encoder=dict(frozen=False, backbone=dict(pretrain_img_size=128, embed_dims=32, depths=(1,1,2,1), num_heads=(1,2,4,8), window_size=4, drop_path_rate=0.)),
    connector=dict(merge=1),
    llm=dict(kept_layers=(0,-1), config=dict(vocab_size=576, hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256)),
    tokenizer=dict(path='data/synthetic/tokenizer', num_visual_tokens=16, max_length=256),
    pixel_decoder=dict(num_layers=1, num_heads=4, num_points=4, feedforward=256),
    perception=dict(num_stuff_queries=6, query_generator=dict(num_queries=24),
       decoder=dict(num_layers=3, num_heads=4, num_points=4, feedforward=256),
       denoising=dict(num_queries=24), matcher=dict(num_points=256), criterion=dict(num_points=1024)),
    max_response_tokens=48)
_train=[
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True),
    dict(type='LoadImageFromFile'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_size, keep_ratio=True),
    dict(type='PadToCanvas', size=_size),
    dict(type='PackPerceptionInputs'),
]
_test=[
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=False),
    dict(type='LoadImageFromFile'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_size, keep_ratio=True),
    dict(type='PadToCanvas', size=_size),
    dict(type='PackPerceptionInputs', with_eval=True),
]
_pan=dict(type='CocoPanopticDataset', data_root=_root, ann_file='annotations/panoptic_train.json', data_prefix=dict(img='images/train', seg='annotations/panoptic_train'), caption_store='captions/train.json', tasks=[dict(type='PanopticTask')], pipeline=_train)
_ref=dict(type='RefCocoDataset', data_root=_root, ann_file='refer/refcoco/refs(unc).p', instances_file='refer/refcoco/instances.json', split='train', data_prefix=dict(img='images'), caption_store='captions/train.json', tasks=[dict(type='ReferringSegmentationTask', max_per_image=5)], pipeline=_train)
train_dataloader=dict(batch_size=16,num_workers=0,collate_fn=dict(type='perception_collate'),sampler=dict(type='RatioSampler', ratios=[1,1]), dataset=dict(type='ConcatDataset', ignore_keys=['classes','thing_flags'], datasets=[_pan,_ref]))
