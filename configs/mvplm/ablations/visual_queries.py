# Table 7, last row: the selected features alone, without base queries from the LLM.
_base_ = 'coco_refcoco.py'
model = dict(
    perception=dict(
        query_generator=dict(_delete_=True, type='VisualQueryGenerator', num_queries=100)))
