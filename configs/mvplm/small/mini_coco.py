# The small model on the photographs of the sample data (MVP_MM_SAMPLE_DATA): trained on 227, tested
# on 100 others, on one CPU core. It shows what pretrained parts are worth and is no result
# (docs/how_to/small_models.md). The encoder is frozen, the LLM has LoRA.
_base_ = ['./lite0_smollm2-135m_512.py', '../../_base_/datasets/mini_coco.py']
canvas = (256, 256)
model = dict(
    encoder=dict(frozen=True),
    llm=dict(
        train_embeddings=True,
        lora=dict(r=16, alpha=32, target_modules=['q_proj', 'k_proj', 'v_proj', 'o_proj'])),
    pixel_decoder=dict(num_layers=2),
    perception=dict(
        num_stuff_queries=40,
        query_generator=dict(num_queries=60),
        denoising=dict(num_queries=60),
        decoder=dict(num_layers=3),
        matcher=dict(num_points=2048),
        criterion=dict(num_points=2048)),
    max_response_tokens=40)

total_batch_size = None
_max_iters = 250
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(_delete_=True, lr_mult={'llm.lm.model.embed_tokens': 0.1}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=20, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters)
validation_images = None
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50))
datasets = _base_._mini_whole
train_dataloader = dict(
    batch_size=1, num_workers=0, mix=dict(_delete_=True, **_base_._mini_mix))
test_cfg = dict(dtype=None)
test_loader_defaults = dict(batch_size=1, num_workers=0)
test_dataloader = dict(
    panoptic=dict(dataset='mini_panoptic_val'), refcoco=dict(dataset='mini_referring_val'))
