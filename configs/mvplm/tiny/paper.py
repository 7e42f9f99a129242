# The paper's system at the tiny size, to compare our additions with: stage2.py without them.
_base_ = './stage2.py'

model = dict(
    perception=dict(
        similarity_head=dict(relation=False),
        decoder=dict(position_in_content=False),
        criterion=dict(ranking_weight=0.0, sentence_reduction='mean', sentence_weight=2.0)))
