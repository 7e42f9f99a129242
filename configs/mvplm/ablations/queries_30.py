# Table 8: 30 queries.
_base_ = 'coco_refcoco.py'
model = dict(perception=dict(query_generator=dict(num_queries=30)))
