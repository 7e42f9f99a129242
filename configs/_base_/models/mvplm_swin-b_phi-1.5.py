# MVP-LM with Swin-B (window 12, 384) and Phi-1.5 (paper section 3.1 and table 2): the paper's
# system, statement by statement in docs/paper.md, without additions of ours (plus.py has those).
_norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
_num_points = 12544
_loss_weights = dict(l1_weight=5.0, giou_weight=2.0, bce_weight=5.0, dice_weight=5.0)

model = dict(
    type='MVPLM',
    embed_dims=256,
    data_preprocessor=dict(type='PerceptionDataPreprocessor', pad_size_divisor=32, **_norm),
    encoder=dict(
        type='ImageEncoder',
        frozen=True,
        backbone=dict(
            type='SwinTransformer',
            pretrain_img_size=384,
            embed_dims=128,
            depths=(2, 2, 18, 2),
            num_heads=(4, 8, 16, 32),
            window_size=12,
            drop_path_rate=0.0)),
    connector=dict(type='MLPConnector', merge=2),
    llm=dict(
        type='CausalLM',
        kept_layers=(-1, ),
        # Task text and visual tokens run once for all instructions of an image.
        shared_prefix=True,
        pretrained='checkpoints/phi-1_5',
        # Sizes of random weights, where pretrained=None.
        config=dict(
            model_type='phi',
            # The same function as Phi's gelu_new, in one fused operation.
            hidden_act='gelu_pytorch_tanh',
            vocab_size=51200,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=24,
            num_attention_heads=32,
            partial_rotary_factor=0.5,
            max_position_embeddings=2048)),
    # Files, length and visual tokens follow from the LLM, the canvas and the connector.
    tokenizer=dict(type='InstructionTokenizer'),
    pixel_decoder=dict(
        type='MSDeformPixelDecoder', num_layers=6, num_heads=8, num_points=4, feedforward=1024),
    perception=dict(
        type='PerceptionHead',
        num_stuff_queries=100,
        query_generator=dict(type='DynamicQueryGenerator', num_queries=100),
        decoder=dict(
            type='MultiGranularityDecoder', num_layers=9, num_heads=8, num_points=4,
            feedforward=2048),
        similarity_head=dict(type='SimilarityHead'),
        box_head=dict(type='BoxHead'),
        mask_head=dict(type='MaskHead'),
        denoising=dict(type='Denoising', num_queries=100, label_noise=0.2, box_noise=0.4),
        matcher=dict(
            type='HungarianMatcher', class_weight=2.0, num_points=_num_points, **_loss_weights),
        criterion=dict(
            type='PerceptionCriterion',
            word_weight=2.0,
            sentence_weight=2.0,
            no_object_weight=0.1,
            num_points=_num_points,
            **_loss_weights)),
    thinking=True,
    # Captioners write up to 256 tokens (docs/reference/captions.md); the ending takes 6.
    max_response_tokens=272)
