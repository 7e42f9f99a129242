# Table 9: learned embeddings and boxes in place of selected features.
_base_ = 'coco_refcoco.py'
model = dict(
    perception=dict(
        query_generator=dict(_delete_=True, type='LearnableQueryGenerator', num_queries=100)))
