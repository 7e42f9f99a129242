# Stage 1 for pretrained.py with a connector that reads all maps of the encoder: connector and LLM
# learn captions until these are true. It starts from the weights of the repository, of which
# encoder and decoder stay as they are. Then, with the path of its checkpoint:
#   python tools/train.py configs/mvplm/tiny/pretrained.py --load-from CHECKPOINT --cfg-options \
#       model.connector.type=PyramidConnector model.encoder.backbone.pretrained_path=None
_base_ = ['stage2.py', '../../_base_/models/lite0.py']
model = dict(
    trainable=['connector', 'llm'],
    encoder=dict(frozen=True, backbone=dict(_base_._lite0, pretrained_path=None)),
    connector=dict(type='PyramidConnector'),
    llm=dict(config=dict(num_hidden_layers=4)))
load_from = 'mvp_mm/weights/tiny/model.safetensors'

# Four captions for each pass of the encoder.
datasets = dict(
    syn_panoptic_train=dict(tasks=[dict(type='CaptionTask')] * 4),
    syn_panoptic_val=dict(
        tasks=[dict(type='CaptionTask')],
        metrics=[dict(type='CaptionTruthMetric', data_root='data/synthetic')]))
train_dataloader = dict(batch_size=16, mix=dict(_delete_=True, syn_panoptic_train=1))
test_dataloader = dict(_delete_=True, captions=dict(dataset='syn_panoptic_val'))

_max_iters = 2000
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=4e-5, by_epoch=False, begin=100, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
default_hooks = dict(
    handover=dict(trained_only=True),
    checkpoint=dict(interval=500),
    visualization=dict(type='PerceptionVisualizationHook', interval=_max_iters))
