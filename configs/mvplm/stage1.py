# Stage 1 (paper table 2): only the connector trains, on captions, so that the LLM can read images.
_base_ = [
    '../_base_/models/mvplm_swin-b_phi-1.5.py', '../_base_/datasets/cc3m.py',
    '../_base_/schedules/stage1.py', '../_base_/default_runtime.py'
]
model = dict(trainable=['connector'])
