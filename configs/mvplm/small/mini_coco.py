# The small model on the photographs of the sample data (MVP_MM_SAMPLE_DATA): trained on 226, tested
# on 101 others, on one CPU core. It shows what pretrained parts are worth and is no result
# (docs/how_to/small_models.md). The encoder is frozen; the LLM is its first layers, with LoRA.
_base_ = ['./lite0_smollm2-135m_512.py', '../../_base_/datasets/mini_coco.py']
canvas = (256, 256)
model = dict(
    embed_dims=128,
    encoder=dict(frozen=True),
    # All 30 layers took half of the time of a step. Names read their input embeddings too.
    llm=dict(
        num_layers=6, kept_layers=(0, -1), train_embeddings=True,
        lora=dict(r=16, alpha=32, target_modules=['q_proj', 'k_proj', 'v_proj', 'o_proj'])),
    pixel_decoder=dict(num_layers=1, feedforward=512, position=dict(type='CyclePosition')),
    perception=dict(
        num_stuff_queries=30, query_generator=dict(num_queries=40),
        denoising=dict(num_queries=40), matcher=dict(num_points=512),
        decoder=dict(num_layers=3, feedforward=512, position_code='cycles'),
        criterion=dict(num_points=1024, normalization='targets')),
    max_response_tokens=40)

total_batch_size = None
_max_iters = 1200
# Every step is clipped to one length, as at the tiny size.
optim_wrapper = dict(
    dtype=None, optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(_delete_=True, lr_mult={'llm.lm.model.embed_tokens': 0.1}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=20, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters)
validation_images = None
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=200))
datasets = _base_._mini_whole
train_dataloader = dict(
    batch_size=4, num_workers=0, mix=dict(_delete_=True, **_base_._mini_mix))
test_cfg = dict(dtype=None)
test_loader_defaults = dict(batch_size=1, num_workers=0)
test_dataloader = dict(
    panoptic=dict(dataset='mini_panoptic_val'), refcoco=dict(dataset='mini_referring_val'))
