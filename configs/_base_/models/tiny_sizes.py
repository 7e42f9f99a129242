# The sizes of a model that learns the synthetic world on two CPU cores, laid over the full one.
# No pretrained part exists at this size, and widths are small:
# - the encoder and the LLM train too;
# - a young LLM's output states for different names look alike, so phrases also read their input
#   embeddings;
# - with DETR's temperature most channels of a narrow position code would hardly change over the
#   canvas ("cycles": 78 % instead of 71 % of the expressions in docs/appendix/tiny_model.md).
_base_ = './plus.py'

_tokenizer = dict(type='InstructionTokenizer', path='data/synthetic/tokenizer')
_tiny_sizes = dict(
    embed_dims=96,
    encoder=dict(
        frozen=False,
        backbone=dict(
            pretrain_img_size=128,
            embed_dims=32,
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 4, 8),
            window_size=4)),
    connector=dict(merge=1),
    llm=dict(
        pretrained=None,
        gradient_checkpointing=False,
        kept_layers=(0, -1),
        config=dict(
            vocab_size=640,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256)),
    tokenizer=_tokenizer,
    pixel_decoder=dict(
        num_layers=1, num_heads=4, feedforward=256, position=dict(type='CyclePosition')),
    perception=dict(
        num_stuff_queries=6,
        query_generator=dict(num_queries=24),
        decoder=dict(num_layers=3, num_heads=4, feedforward=256, position_code='cycles'),
        denoising=dict(num_queries=24),
        matcher=dict(num_points=256),
        criterion=dict(num_points=1024)),
    max_response_tokens=48)
# The same with our additions.
_tiny_head = _tiny_sizes['perception']
_tiny_plus = dict(
    _tiny_sizes,
    perception=dict(
        _tiny_head,
        similarity_head=_base_._plus.perception.similarity_head,
        decoder=dict(_tiny_head['decoder'], **_base_._plus.perception.decoder),
        criterion=dict(_tiny_head['criterion'], **_base_._plus.perception.criterion)))
