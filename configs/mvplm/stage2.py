# Stage 2 (paper table 2): connector, LLM and decoder train on the mix of all datasets. The paper's
# system; ours is plus/stage2.py.
# 8 images per GPU on 8 GPUs make the paper's batch of 64.
_base_ = [
    '../_base_/models/mvplm_swin-b_phi-1.5.py', '../_base_/datasets.py', '../_base_/pipelines.py',
    '../_base_/inferencer.py', '../_base_/schedules/stage2.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/stage1/iter_4650.pth'
# Eight images fit a GPU of 80 GB when the LLM's activations are recomputed.
model = dict(llm=dict(gradient_checkpointing=True))
# The recipe starts these parts from pretrained weights (docs/reference/weights.md). Both halves of
# the decoder may start at random values all the same: the log warns of it, first and last.
default_hooks = dict(
    handover=dict(
        pretrained_parts=['encoder', 'llm', 'pixel_decoder', 'perception.decoder'],
        allow_random_init=['pixel_decoder', 'perception.decoder']),
    response_limit=dict(type='ResponseLimitHook'))

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    # COCO 33.3 %, RefCOCO/+/g 33.3 %, Objects365 16.7 %, GoldG 16.7 %.
    mix=dict(
        coco_panoptic_train=6,
        refcoco_train=2,
        refcoco_plus_train=2,
        refcocog_train=2,
        objects365_train=3,
        goldg_mixed_train=1.5,
        goldg_flickr_train=1.5))

# What becomes of a training image whose captions were all cleaned away; their number is logged.
missing_caption = 'leave_out'

# As in training, eight images at once in bfloat16; dtype=None is float32.
test_cfg = dict(type='MultiTestLoop', dtype='bfloat16')
test_loader_defaults = dict(batch_size=8, num_workers=2)
test_dataloader = dict(
    panoptic=dict(dataset='coco_panoptic_val'), refcoco=dict(dataset='refcoco_val'))
# The share of responses whose ending was forced, beside the metrics of every dataset.
common_metrics = [dict(type='ResponseMetric')]
# Training is validated on a fixed random subset of each test dataset; None turns it off.
validation_images = 256
