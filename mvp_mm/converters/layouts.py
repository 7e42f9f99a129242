# Copyright (c) mvp_mm authors. All rights reserved.
"""Layouts of whole checkpoints that we know."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mvp_mm.converters.connector import connector_rules
from mvp_mm.converters.conversion import Conversion, Rule, convert
from mvp_mm.converters.decoder import decoder_rules, text_rules
from mvp_mm.converters.phi import add_output_bias, phi_rules
from mvp_mm.converters.swin import swin_rules, timm_swin_rules


def pixel_decoder_rules(prefix: str) -> list[Rule]:
    """Rules for MaskDINO's and OpenSeeD's pixel decoder with four levels, finest first."""
    layer, ours = rf'{prefix}transformer\.encoder\.layers\.(\d+)\.', r'pixel_decoder.layers.\1.'
    return [
        Rule(rf'{prefix}input_proj\.([012])\.([01]\.\w+)', r'pixel_decoder.inputs.\1.\2'),
        Rule(rf'{prefix}input_proj\.3\.([01]\.\w+)', r'pixel_decoder.extra.\1'),
        Rule(rf'{prefix}transformer\.level_embed', 'pixel_decoder.level_embed'),
        Rule(rf'{layer}self_attn\.(.+)', rf'{ours}attention.\2'),
        Rule(rf'{layer}linear1\.(\w+)', rf'{ours}feedforward.0.\2'),
        Rule(rf'{layer}linear2\.(\w+)', rf'{ours}feedforward.2.\2'),
        Rule(rf'{layer}(norm[12]\.\w+)', rf'{ours}\2'),
        Rule(rf'{prefix}adapter_1\.weight', 'pixel_decoder.lateral.0.weight'),
        Rule(rf'{prefix}adapter_1\.norm\.(\w+)', r'pixel_decoder.lateral.1.\1'),
        Rule(rf'{prefix}layer_1\.weight', 'pixel_decoder.output.0.weight'),
        Rule(rf'{prefix}layer_1\.norm\.(\w+)', r'pixel_decoder.output.1.\1'),
        Rule(rf'{prefix}mask_features\.(\w+)', r'pixel_decoder.output.3.\1'),
    ]


class Layout(NamedTuple):
    """How one code base names its parts.

    Attributes:
        title: For people.
        telling: Keys of which any one gives the layout away.
        backbone: Prefix of the Swin's keys, None without one.
        pixel_decoder: Prefix of the pixel decoder's keys, None without one.
        predictor: Prefix of the decoder's keys, None without one.
        language: Whether connector, LLM and text projections may be in it.
        encoder_rules: Rules for the encoder where its keys are not those of Swin's authors.
        remark: For people, about what is left of it.
    """

    title: str
    telling: tuple[str, ...]
    backbone: str | None = None
    pixel_decoder: str | None = None
    predictor: str | None = None
    language: bool = False
    encoder_rules: tuple[Rule, ...] = ()
    remark: str = ''

    def rules(self, encoder_only: bool, num_heads: int, decoder_points: int | None) -> list[Rule]:
        """Rules for the parts; see :func:`convert_layout`."""
        rules = [*self.encoder_rules]
        if self.backbone is not None:
            rules += swin_rules(re.escape(self.backbone), _ENCODER)
        if encoder_only:
            return rules
        if self.pixel_decoder is not None:
            rules += pixel_decoder_rules(re.escape(self.pixel_decoder))
        if self.predictor is not None and decoder_points is not None:
            rules += decoder_rules(re.escape(self.predictor), decoder_points)
            if self.language:
                rules += text_rules(re.escape(self.predictor))
        if self.language:
            rules += connector_rules() + phi_rules(num_heads, _LLM)
        return rules


_LLM, _ENCODER = 'llm.lm.', 'encoder.backbone.'
_CONNECTORS = ('mm_projector.fc.weight', 'mm_projector.0.weight')
LAYOUTS = (
    Layout('detectron2 (MaskDINO, OpenSeeD)',
           ('backbone.patch_embed.proj.weight', 'sem_seg_head.pixel_decoder.mask_features.weight'),
           'backbone.', 'sem_seg_head.pixel_decoder.', 'sem_seg_head.predictor.'),
    Layout("MVP-LM's authors",
           ('model.vision_tower.patch_embed.proj.weight', 'pixel_decoder.mask_features.weight',
            'predictor.enc_output.weight'),
           'model.vision_tower.', 'pixel_decoder.', 'predictor.', language=True),
    Layout("a connector's file", (*_CONNECTORS, *(f'model.{key}' for key in _CONNECTORS)),
           language=True),
    Layout('mmdet', ('backbone.patch_embed.projection.weight', ),
           encoder_rules=(Rule(r'backbone\.(.+)', rf'{_ENCODER}\1'), ),
           remark="Mask2Former's pixel decoder has three levels, counted from the coarsest, ours "
                  'four from the finest, and its decoder attends within masks: neither fits'),
    Layout('timm', ('layers.3.downsample.norm.weight', 'layers_3.downsample.norm.weight'),
           encoder_rules=tuple(timm_swin_rules(_ENCODER)),
           remark='timm norms the last map alone: norm0 to norm2 of the encoder are missing'),
    Layout("Swin's authors", ('patch_embed.proj.weight', ), ''),
)


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """Recognise a layout by its telling keys; None where it is unknown."""
    return next((one for one in LAYOUTS if any(key in state for key in one.telling)), None)


def _check_levels(state: Mapping[str, Tensor], layout: Layout) -> None:
    """Refuse pixel decoders whose levels are others than ours.

    Mask2Former's has three levels, counted from the coarsest.
    """
    widths: list[int] = []
    while (key := f'{layout.pixel_decoder}input_proj.{len(widths)}.0.weight') in state:
        widths.append(state[key].shape[1])
    if not widths:
        return
    if len(widths) != 4:
        raise ValueError(f'{layout.title}: the pixel decoder has {len(widths)} levels, ours has 4; '
                         'leave it out with --encoder-only')
    if widths != sorted(widths):
        raise ValueError(f'{layout.title}: the pixel decoder counts its levels from the coarsest '
                         f'({widths} channels); only the order from the finest can be converted')


def convert_layout(state: Mapping[str, Tensor], encoder_only: bool = False, num_heads: int = 32,
                   decoder_points: int | None = None) -> tuple[Conversion, Layout]:
    """Find out the layout of a checkpoint, and convert the parts that we can.

    Args:
        state: Weights by name.
        encoder_only: Leave everything but the encoder.
        num_heads: Attention heads of the LLM.
        decoder_points: Points that the model's ``DINODecoder`` samples per head and level; None
            leaves the decoder, which no other can take.

    Raises:
        ValueError: If the layout is unknown, or the pixel decoder is built otherwise than ours.
    """
    layout = layout_of(state)
    if layout is None:
        known = ', '.join(f'{one.title} ({one.telling[0]})' for one in LAYOUTS)
        raise ValueError(f'unknown layout; known are {known}; the file begins with '
                         f'{list(state)[:3]}')
    if layout.pixel_decoder is not None and not encoder_only:
        _check_levels(state, layout)
    done = convert(state, layout.rules(encoder_only, num_heads, decoder_points))
    if layout.language:
        add_output_bias(done, _LLM)
    return done, layout
