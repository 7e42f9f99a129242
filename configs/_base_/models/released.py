# Parts that behave as the authors' released code does (mvp_mm/models/released), laid over the
# paper's model. Sizes are the leaf's.
# The padded area is attended to: it is grey.
_released_fit = [
    dict(type='ResizeToCanvas'),
    dict(type='PadToCanvas', pad_val=dict(img=(128, 128, 128), masks=0))
]
_released_questions = dict(
    panoptic=dict(type='ReleasedPanopticTask'),
    referring_segmentation=dict(type='ReleasedReferringTask'),
    generalized_referring=dict(type='ReleasedGeneralizedReferringTask'))
_released = dict(
    type='ReleasedMVPLM',
    # The released code writes nothing at test time.
    thinking=False,
    answering=dict(same_iou=None, nms_iou=None),
    connector=dict(_delete_=True, type='ConvConnector', planes=2048),
    tokenizer=dict(type='ReleasedTokenizer'),
    pixel_decoder=dict(type='ReleasedPixelDecoder'),
    perception=dict(
        type='ReleasedPerceptionHead',
        query_generator=dict(type='ReleasedQueryGenerator'),
        decoder=dict(type='DINODecoder'),
        similarity_head=dict(_delete_=True, type='ReleasedSimilarityHead'),
        box_head=dict(type='ReleasedBoxHead'),
        denoising=dict(_delete_=True, type='ReleasedDenoising', num_queries=100, box_noise=0.4),
        matcher=dict(type='ReleasedMatcher'),
        criterion=dict(type='ReleasedCriterion', ranking_weight=0.0, normalization='targets')))
