# Stage 2 with our additions (configs/_base_/models/plus.py); the rest is the paper's. It starts
# from the paper's stage 1, which trains the connector alone and needs no other config.
_base_ = ['../stage2.py', '../../_base_/models/plus.py']

model = dict(
    # An image's captions count once, however many sentences it is asked. Effect not measured.
    llm=dict(loss_average='images'), **_base_._plus)

# Four sentences share an image's encoding, at little cost: 2.6 times as many are seen per step.
# Effect not measured: images of the synthetic world carry six.
_sentences = [dict(type='ReferringSegmentationTask', max_per_image=4)]
datasets = dict(
    refcoco_train=dict(tasks=_sentences),
    refcoco_plus_train=dict(tasks=_sentences),
    refcocog_train=dict(tasks=_sentences))
