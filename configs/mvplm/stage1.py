# Stage 1 (paper table 2): only the connector trains, on captions, so that the LLM can read images.
# 16 images per GPU on 8 GPUs make the paper's batch of 128.
_base_ = [
    '../_base_/models/mvplm_swin-b_phi-1.5.py', '../_base_/datasets.py', '../_base_/pipelines.py',
    '../_base_/schedules/stage1.py', '../_base_/default_runtime.py'
]
model = dict(trainable=['connector'])
# Checkpoints hold the connector and name where the rest was taken from. Captions need neither the
# pixel decoder nor the perception head: these do not run. Encoder and LLM must be given.
default_hooks = dict(
    handover=dict(trained_only=True, allow_frozen_random_init=['pixel_decoder', 'perception']))
train_dataloader = dict(batch_size=16, num_workers=4, dataset='cc3m')
