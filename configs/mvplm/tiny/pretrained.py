# Stage 2 at the tiny size with an encoder that has seen photographs, as the paper starts from a
# pretrained Swin-B: EfficientNet-Lite0 with ImageNet weights. It needs no stage 1. Once, before it:
#   f=checkpoints/efficientnet_lite0.safetensors
#   python tools/model_converters/convert_efficientnet.py --out $f
# Without that file it ends with this command; stage2.py beside this file starts from nothing.
_base_ = ['stage2.py', '../../_base_/models/lite0.py']
model = dict(
    encoder=dict(backbone=_base_._lite0),
    # The encoder's last map loses colour in training; captions then name colours at random.
    connector=dict(type='PyramidConnector'),
    # Counting and ordinals need more than two layers.
    llm=dict(config=dict(num_hidden_layers=4)))
default_hooks = dict(handover=dict(pretrained_parts=['encoder']))
# Where N-acc and T-acc balance on images of their own: tools/analysis_tools/calibrate_presence.py.
_presence = dict(presence_thr=0.74)
inferencer = dict(tasks=dict(generalized_referring=_presence))
datasets = dict(
    syn_grefcoco_val=dict(tasks=[dict(type='GeneralizedReferringTask', **_presence)]))
