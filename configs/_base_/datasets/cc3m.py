# CC3M image-caption pairs in LLaVA's pre-training JSON (stage 1).
_image_size = (1024, 1024)
_tokenizer = dict(
    type='InstructionTokenizer', path='checkpoints/phi-1_5', num_visual_tokens=256,
    max_length=2048)
_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True),
    dict(type='LoadImageFromFile'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_image_size, keep_ratio=True),
    dict(type='PadToCanvas', size=_image_size),
    dict(type='PackPerceptionInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='perception_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CaptionDataset',
        data_root='data/cc3m',
        ann_file='chat.json',
        data_prefix=dict(img='images'),
        tasks=[dict(type='CaptionTask')],
        pipeline=_pipeline))
