# The sizes of a model for one GPU, laid over the full one: a small pretrained encoder that trains
# too, a small pretrained LLM and shorter decoders, with our additions. Pretrained parts are local
# files (docs/how_to/small_models.md).
_base_ = ['./plus.py', './lite0.py']

_small = dict(
    encoder=dict(frozen=False, backbone=_base_._lite0),
    llm=dict(
        pretrained='checkpoints/smollm2-135m-instruct',
        gradient_checkpointing=False,
        loss_average='images',
        # Sizes of random weights, where pretrained=None: SmolLM2-135M and a row for <PER>.
        config=dict(
            _delete_=True,
            model_type='llama',
            vocab_size=49153,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            tie_word_embeddings=True)),
    pixel_decoder=dict(num_layers=4),
    perception=dict(
        num_stuff_queries=60,
        decoder=dict(num_layers=6, feedforward=1024, **_base_._plus.perception.decoder),
        similarity_head=_base_._plus.perception.similarity_head,
        criterion=_base_._plus.perception.criterion),
    max_response_tokens=96)
