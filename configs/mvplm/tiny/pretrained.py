# Stage 2 at the tiny size with an encoder that has seen photographs, as the paper starts from a
# pretrained Swin-B: EfficientNet-Lite0 with ImageNet weights. It needs no stage 1. Once, before it:
#   f=checkpoints/efficientnet_lite0.safetensors
#   python tools/model_converters/convert_efficientnet.py --out $f
# Without that file it ends with this command; stage2.py beside this file starts from nothing.
_base_ = ['stage2.py', '../../_base_/models/lite0.py']
model = dict(
    # With a map at stride 2 masks have that stride: at 128 × 128 a coarser grid blurs small things.
    encoder=dict(backbone=dict(_base_._lite0, out_indices=(0, 1, 2, 3, 4))),
    # The encoder's last map loses colour in training; captions then name colours at random.
    connector=dict(type='PyramidConnector'),
    # "The circle on the grass": queries of things do not tell on which ground they lie.
    perception=dict(similarity_head=dict(surroundings=32)),
    # Counting and ordinals need more than two layers.
    llm=dict(config=dict(num_hidden_layers=4)))
# Half an hour on two cores.
_max_iters = 2400
train_cfg = dict(max_iters=_max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=100, end=_max_iters)
]
default_hooks = dict(
    handover=dict(pretrained_parts=['encoder']), checkpoint=dict(interval=_max_iters))
# Where N-acc and T-acc balance on images of their own: tools/analysis_tools/calibrate_presence.py.
_presence = dict(presence_thr=0.81)
inferencer = dict(tasks=dict(generalized_referring=_presence))
datasets = dict(
    # Three in ten of them mean nothing; RefCOCO, with five per image, has none of those.
    syn_grefcoco_train=dict(tasks=[dict(type='GeneralizedReferringTask', max_per_image=4)]),
    syn_grefcoco_val=dict(tasks=[dict(type='GeneralizedReferringTask', **_presence)]))
