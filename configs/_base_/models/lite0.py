# EfficientNet-Lite0 with ImageNet weights, in place of the encoder's backbone. The file is
# written by tools/model_converters/convert_efficientnet.py.
_lite0 = dict(
    _delete_=True,
    type='TimmBackbone',
    model_name='tf_efficientnet_lite0',
    pretrained_path='checkpoints/efficientnet_lite0.safetensors')
