# Copyright (c) mvp_mm authors. All rights reserved.
"""Says how small a rehearsed model is: the one overlay over the full-size configs.

Widths and depths shrink; names, layouts and everything else stay. The overlay is given as
``--cfg-options``, as a user would shrink a model. The LLM needs none: its sizes are those of its
folder.
"""
from __future__ import annotations

# Swin-B but for its widths and the depth of its third stage, 18.
SWIN_WIDTH, SWIN_DEPTHS, SWIN_HEADS, SWIN_WINDOW = 16, (2, 2, 4, 2), (1, 2, 4, 8), 12
# Phi-1.5 but for its widths and 24 layers; its embedding is padded beyond the 50 295 tokens.
# The released code's has these and two of its own.
PHI_VOCABULARY, RELEASED_VOCABULARY, PHI_LAYERS, PHI_WIDTH = 51_200, 50_297, 4, 32
PHI = dict(hidden_size=PHI_WIDTH, intermediate_size=64, num_hidden_layers=PHI_LAYERS,
           num_attention_heads=2, partial_rotary_factor=0.5, max_position_embeddings=2048,
           hidden_act='gelu_new', layer_norm_eps=1e-5)
# Parts of the small configs: widths and depths shrink, ratios of heads and vocabularies stay.
VIT = dict(depth=2, embed_dim=32, num_heads=2)
CONVNEXT = dict(depths=(1, 1, 2, 1), dims=(8, 16, 32, 64))
SMOLLM2_135M = dict(
    architectures=['LlamaForCausalLM'], model_type='llama', vocab_size=49_152, hidden_size=48,
    intermediate_size=128, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
    max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100_000, bos_token_id=1,
    eos_token_id=2, pad_token_id=2, transformers_version='4.42.3')
SMOLLM2_360M = dict(SMOLLM2_135M, hidden_size=96, intermediate_size=256, num_attention_heads=6,
                    num_key_value_heads=2)
# Its heads are wider than hidden_size / num_attention_heads.
QWEN3 = dict(
    architectures=['Qwen3ForCausalLM'], model_type='qwen3', vocab_size=151_936, hidden_size=32,
    intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, max_position_embeddings=40_960, rms_norm_eps=1e-6, rope_theta=1_000_000,
    bos_token_id=151_643, eos_token_id=151_645, sliding_window=None,
    transformers_version='4.51.0')
# Decoders: heads and sampled points as at full size.
WIDTH, FEEDFORWARD, ENCODER_LAYERS, DECODER_LAYERS, HEADS, POINTS = 32, 64, 2, 3, 8, 4
# The smallest on which an image at an aspect ratio of 2 has 300 memory tokens (table 8).
CANVAS = 192
# Planes of the released code's connector.
PLANES = 32

MODEL_OPTIONS = {
    'canvas': f'({CANVAS},{CANVAS})',
    'model.embed_dims': WIDTH,
    'model.encoder.backbone.embed_dims': SWIN_WIDTH,
    'model.encoder.backbone.depths': SWIN_DEPTHS,
    'model.encoder.backbone.num_heads': SWIN_HEADS,
    'model.pixel_decoder.num_layers': ENCODER_LAYERS,
    'model.pixel_decoder.feedforward': FEEDFORWARD,
    'model.perception.decoder.num_layers': DECODER_LAYERS,
    'model.perception.decoder.feedforward': FEEDFORWARD,
    'model.perception.matcher.num_points': 256,
    'model.perception.criterion.num_points': 256,
    'model.max_response_tokens': 12,
}
# The released config has no folder of an LLM: its sizes stand in the config.
RELEASED_OPTIONS = {
    'model.connector.planes': PLANES,
    'model.llm.kept_layers': tuple(range(PHI_LAYERS + 1)),
    **{f'model.llm.config.{key}': PHI[key] for key in (
        'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads')},
}
# The small configs' encoders are timm's: Swin's settings have no place in them.
TIMM_OPTIONS = {f'model.encoder.backbone.{key}': None
                for key in ('embed_dims', 'depths', 'num_heads')}
SMALL_OPTIONS = {
    'vit': {f'model.encoder.backbone.model_args.{key}': value for key, value in VIT.items()},
    'convnext': {f'model.encoder.backbone.model_args.{key}': value
                 for key, value in CONVNEXT.items()},
    # Of the two layers in its LLM's folder.
    'mini_coco': {'model.llm.num_layers': 1},
}
# A training of two steps. Batches, mix and gradient accumulation keep their ways.
STEPS = 2
TRAIN_OPTIONS = {
    'train_cfg.max_iters': STEPS,
    'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.interval': STEPS,
    'train_dataloader.num_workers': 0,
}
ONE_STEP = {'train_cfg.max_iters': 1, 'default_hooks.checkpoint.interval': 1}
TEST_OPTIONS = {'test_loader_defaults.num_workers': 0}
