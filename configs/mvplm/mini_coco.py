# Real files, small: fits 8 COCO panoptic images and RefCOCO images with their sentences, tested on
# the same. It shows that real formats flow and that the model, with our additions, can fit; it is
# no result. Two processes with 2 images each; sample data in MVP_MM_SAMPLE_DATA (../shared/data).
_base_ = ['./stage2.py', '../_base_/models/tiny_sizes.py', '../_base_/datasets/mini_coco.py']
canvas = (256, 256)
load_from = None
total_batch_size = None

_sizes = _base_._tiny_plus
_sizes.llm.config.update(vocab_size=50304, max_position_embeddings=768)
_sizes.tokenizer.path = f'{_base_._mini_root}/gpt2_bpe'
_sizes.perception.update(num_stuff_queries=16)
_sizes.perception.query_generator.num_queries = 48
_sizes.perception.denoising.num_queries = 48
_sizes.perception.criterion.num_points = 4096
model = _sizes

_max_iters = 900
optim_wrapper = dict(
    dtype=None, optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=50, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters)
validation_images = None
default_hooks = dict(
    handover=dict(pretrained_parts=[]),
    checkpoint=dict(interval=_max_iters),
    visualization=dict(type='PerceptionVisualizationHook', interval=4))

datasets = _base_._mini_coco
_shares = dict.fromkeys(_base_._mini_sentences, 1)
train_dataloader = dict(
    batch_size=2, num_workers=0, mix=dict(_delete_=True, mini_panoptic=7, **_shares))
test_cfg = dict(dtype=None)
test_loader_defaults = dict(batch_size=1, num_workers=0)
test_dataloader = dict(
    panoptic=dict(dataset='mini_panoptic_test'), refcoco=dict(dataset='mini_referring_test'))
