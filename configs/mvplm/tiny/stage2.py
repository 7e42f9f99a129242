# Stage 2 at the tiny size with our additions (as plus/stage2.py), on the synthetic world; paper.py
# beside this file is the paper's system. Two processes with 4 images each.
_base_ = ['../stage2.py', '../../_base_/models/tiny_sizes.py']
canvas = (128, 128)
_model = _base_._tiny_plus
# An image carries a word list and several sentences: over images the list would count a seventh.
_model.perception.criterion.normalization = 'targets'
model = _model
load_from = None

total_batch_size = None
_max_iters = 1650
# Norms are about 100: at this size every step is clipped to one length.
optim_wrapper = dict(
    dtype=None, optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=100, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters)
validation_images = None
# On two cores, sending gradients during the backward pass takes time from it.
model_wrapper_cfg = dict(bucket_cap_mb=100)
default_hooks = dict(
    handover=dict(pretrained_parts=[]),
    checkpoint=dict(interval=_max_iters),
    visualization=dict(type='PerceptionVisualizationHook', interval=60))

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    mix=dict(_delete_=True, syn_joined_train=6, syn_objects365_train=1, syn_goldg_train=1))
test_cfg = dict(dtype=None)
test_loader_defaults = dict(num_workers=0)
test_dataloader = dict(
    panoptic=dict(dataset='syn_panoptic_val'),
    refcoco=dict(dataset='syn_refcoco_val'),
    grefcoco=dict(dataset='syn_grefcoco_val'),
    objects365=dict(dataset='syn_objects365_val'),
    goldg=dict(dataset='syn_goldg_val'))
