# Copyright (c) mvp_mm authors. All rights reserved.
"""Layouts of whole checkpoints that we know."""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mvp_mm.converters.conversion import Conversion, Rule, convert
from mvp_mm.converters.swin import swin_rules


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
        backbone: Prefix of the Swin's keys.
        pixel_decoder: Prefix of the pixel decoder's keys.
    """

    title: str
    backbone: str
    pixel_decoder: str

    def knows(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the weights have the backbone's or the pixel decoder's telling keys."""
        return (f'{self.backbone}patch_embed.proj.weight' in state
                or f'{self.pixel_decoder}mask_features.weight' in state)


LAYOUTS = (
    Layout('detectron2 (MaskDINO, OpenSeeD)', 'backbone.', 'sem_seg_head.pixel_decoder.'),
    Layout("MVP-LM's authors", 'model.vision_tower.', 'pixel_decoder.'),
    Layout("Swin's authors", '', 'none.'),
)


def _check_levels(state: Mapping[str, Tensor], layout: Layout) -> None:
    """Refuse pixel decoders whose levels are others than ours.

    Mask2Former's has three levels, counted from the coarsest.
    """
    widths = []
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


def convert_layout(state: Mapping[str, Tensor], encoder_only: bool = False
                   ) -> tuple[Conversion, Layout]:
    """Find out the layout of a checkpoint, and convert encoder and pixel decoder.

    Args:
        state: Weights by name.
        encoder_only: Leave the pixel decoder.

    Raises:
        ValueError: If the layout is unknown, or the pixel decoder is built otherwise than ours.
    """
    for layout in LAYOUTS:
        if layout.knows(state):
            break
    else:
        raise ValueError('unknown layout; known are ' + ', '.join(
            f'{one.title} ({one.backbone}patch_embed.proj.weight …)' for one in LAYOUTS)
            + f'; the file begins with {list(state)[:3]}')
    escaped = layout.backbone.replace('.', r'\.')
    rules = swin_rules(escaped, 'encoder.backbone.')
    if not encoder_only:
        _check_levels(state, layout)
        rules += pixel_decoder_rules(layout.pixel_decoder.replace('.', r'\.'))
    return convert(state, rules), layout
