# Copyright (c) mvp_mm authors. All rights reserved.
# The questions that a user may ask; the pipeline is `pipelines.inference`.
inferencer = dict(
    tasks=dict(
        panoptic=dict(type='PanopticTask'),
        semantic=dict(type='SemanticTask'),
        instance=dict(type='InstanceTask'),
        detection=dict(type='DetectionTask'),
        grounding=dict(type='PhraseGroundingTask'),
        referring_segmentation=dict(type='ReferringSegmentationTask'),
        referring_comprehension=dict(type='ReferringComprehensionTask'),
        generalized_referring=dict(type='GeneralizedReferringTask'),
        caption=dict(type='CaptionTask')))
