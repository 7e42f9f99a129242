# Copyright (c) mvp_mm authors. All rights reserved.
"""Backbones of timm with maps at several strides."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mvp_mm.registry import MODELS
from mvp_mm.utils.checkpoint_io import CheckpointError, read_weights

STRIDES = [4, 8, 16, 32]


def create_timm(model_name: str, pretrained_path: str | None, **model_args: Any) -> nn.Module:
    """Build a timm model, with the weights of a local file or random ones.

    Raises:
        CheckpointError: If the file cannot be read, or has no weight of the model.
    """
    import timm

    if not pretrained_path:
        return timm.create_model(model_name, **model_args)
    state = read_weights(pretrained_path)
    # As pretrained weights, timm fits a classifier's checkpoint to the feature extractor.
    model = timm.create_model(
        model_name, pretrained=True, pretrained_cfg_overlay=dict(state_dict=dict(state)),
        **model_args)
    _check_taken(model, state, pretrained_path)
    return model


def _check_taken(model: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Refuse a file that has left a model as it was; timm loads without a report.

    Raises:
        CheckpointError: If no matrix of the model is in the file.
    """
    # The file's tensors would stay in memory with the model.
    for module in model.modules():
        cfg = getattr(module, 'pretrained_cfg', None)
        if isinstance(cfg, dict):
            cfg.pop('state_dict', None)
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for value in state.values():
        by_shape.setdefault(value.shape, []).append(value)
    taken = any(torch.equal(parameter.detach(), value.to(parameter.dtype))
                for parameter in model.parameters() if parameter.ndim > 1
                for value in by_shape.get(parameter.shape, ()))
    if not taken:
        raise CheckpointError(f'{path} holds not one weight of this encoder: it would stay at '
                              f'random values. The file begins with {list(state)[:3]}')


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """Runs any timm model that offers ``features_only`` with maps at strides 4, 8, 16, 32.

    With a fifth stage, of stride 2, masks have that stride too: ``out_indices=(0, 1, 2, 3, 4)``
    where a model has five.

    Convolutional and hierarchical models (ConvNeXt, Swin, …) do; a plain ViT is a
    :class:`~mvp_mm.models.encoders.plain_vit.PlainViT`.

    Args:
        model_name: timm's name of the architecture.
        pretrained_path: Local checkpoint file, or None for random weights.
        out_indices: Stages to return; by default the last four.
        model_args: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: If the stages have other strides.
    """

    def __init__(self, model_name: str, pretrained_path: str | None = None,
                 out_indices: tuple[int, ...] | None = None,
                 model_args: dict | None = None) -> None:
        super().__init__()
        self.pretrained = pretrained_path
        stages = out_indices or self._last_four(model_name, model_args or {})
        self.model = create_timm(model_name, pretrained_path, features_only=True,
                                 out_indices=stages, **(model_args or {}))
        self.num_features = self.model.feature_info.channels()
        # Some timm transformers return channels last.
        self.channels_last = getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC'
        strides = list(self.model.feature_info.reduction())
        if strides not in (STRIDES, [2, *STRIDES]):
            hint = ('; for a plain ViT, give encoder.backbone=dict(type=\'PlainViT\', …) and '
                    'encoder.neck=dict(type=\'SimpleFeaturePyramid\')'
                    if len(set(strides)) == 1 else '')
            raise ValueError(f'{model_name}: stages {stages} have strides {strides}, '
                             f'need {STRIDES}, or 2 before them{hint}')

    @staticmethod
    def _last_four(model_name: str, model_args: dict) -> tuple[int, ...]:
        import timm

        with torch.device('meta'):
            probe = timm.create_model(model_name, features_only=True, **model_args)
        count = len(probe.feature_info.channels())
        return tuple(range(max(0, count - 4), count))

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass.

        Raises:
            ValueError: If timm offers it for no part of the model.
        """
        offers = [m for m in self.model.modules()
                  if callable(getattr(m, 'set_grad_checkpointing', None))]
        if not offers:
            raise ValueError(f'encoder.gradient_checkpointing: timm offers none for '
                             f'{type(self.model).__name__}')
        offers[0].set_grad_checkpointing(True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, 3, H, W) images to maps (B, C_l, H / s, W / s), s = (2,) 4, 8, 16, 32."""
        maps = self.model(images)
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return tuple(maps)
