# A frozen ConvNeXt-T, as the paper freezes its encoder, and Qwen3-0.6B with low-rank adapters.
# Files: timm's weights of the ConvNeXt, and the LLM's folder (docs/how_to/small_models.md).
_base_ = './lite0_smollm2-135m_512.py'
canvas = (768, 768)
model = dict(
    encoder=dict(
        frozen=True,
        backbone=dict(
            model_name='convnext_tiny', pretrained_path='checkpoints/convnext_tiny.safetensors')),
    llm=dict(
        pretrained='checkpoints/qwen3-0.6b',
        gradient_checkpointing=True,
        train_embeddings=True,
        lora=dict(r=32, alpha=64, dropout=0.05, target_modules='all-linear'),
        config=dict(
            model_type='qwen3',
            vocab_size=151936,
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            max_position_embeddings=40960)))
# The adapters are new; the embeddings are not.
optim_wrapper = dict(
    paramwise_cfg=dict(_delete_=True, lr_mult={'llm.lm.model.embed_tokens': 0.1}))
train_dataloader = dict(batch_size=8)
