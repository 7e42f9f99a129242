# A ViT-S of DINOv2 with a feature pyramid, and SmolLM2-360M, both of which train on. Files: timm's
# weights of the ViT, and the LLM's folder (docs/how_to/small_models.md).
_base_ = './lite0_smollm2-135m_512.py'
canvas = (768, 768)
model = dict(
    encoder=dict(
        backbone=dict(
            _delete_=True,
            type='PlainViT',
            model_name='vit_small_patch14_dinov2',
            pretrained_path='checkpoints/vit_small_patch14_dinov2.safetensors'),
        gradient_checkpointing=True,
        neck=dict(type='SimpleFeaturePyramid')),
    llm=dict(
        pretrained='checkpoints/smollm2-360m-instruct',
        gradient_checkpointing=True,
        config=dict(
            hidden_size=960,
            intermediate_size=2560,
            num_hidden_layers=32,
            num_attention_heads=15,
            num_key_value_heads=5)))
train_dataloader = dict(batch_size=8)
