# Copyright (c) mvp_mm authors. All rights reserved.
# From a file to the model's input, by name; a name among the steps stands for that pipeline's
# steps. Datasets take `train` or `test` unless they name another. The tokenizer, the canvas and
# the room for the response are bound when the config is loaded (docs/reference/configs.md).
canvas = (1024, 1024)

pipelines = dict(
    # The whole image, at its own aspect ratio, in the upper left corner of the canvas; beside it
    # the mean of the normalisation (BGR), which the encoder sees as zero.
    fit=[
        dict(type='ResizeToCanvas'),
        dict(type='PadToCanvas', pad_val=dict(img=(104, 116, 124), masks=0, seg=255))
    ],
    train=[
        dict(type='BuildInstructions', training=True), dict(type='LoadImage'),
        dict(type='LoadPerceptionAnnotations'), 'fit', dict(type='PackPerceptionInputs')
    ],
    test=[
        dict(type='BuildInstructions', training=False), dict(type='LoadImage'),
        dict(type='LoadPerceptionAnnotations'), 'fit',
        dict(type='PackPerceptionInputs', with_eval=True)
    ],
    # Truth that is a semantic map.
    test_semantic_map=[
        dict(type='BuildInstructions', training=False), dict(type='LoadImage'),
        dict(type='LoadSemanticMap'), 'fit', dict(type='PackPerceptionInputs', with_eval=True)
    ],
    # Images inside tars.
    train_tar=[
        dict(type='BuildInstructions', training=True), dict(type='LoadImageFromTar'),
        dict(type='LoadPerceptionAnnotations'), 'fit', dict(type='PackPerceptionInputs')
    ],
    # A user's image and question, already in memory.
    inference=[dict(type='TokenizeRequests'), 'fit', dict(type='PackPerceptionInputs')])
