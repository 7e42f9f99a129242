# A GRPO stage after the supervised one: it starts from the weights of the repository and keeps the
# supervised losses. `model.grpo.weight=0` is the same training without GRPO.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.grpo.grpo'])

model = dict(
    type='GRPOMVPLM',
    grpo=dict(group=4, temperature=1.0, weight=1.0, reward='mask', max_sentences=8),
    encoder=dict(backbone=dict(pretrained_path=None)))
load_from = 'tiny'
optim_wrapper = dict(optimizer=dict(lr=1e-4))
