# Copyright (c) mvp_mm authors. All rights reserved.
"""Training of connector and LLM on captions that leaves alone what the perception head reads."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mvp_mm.models import MVPLM
from mvp_mm.models.connectors import build_connector, connect
from mvp_mm.models.language import (
    LanguageOutput,
    insert_visual_tokens,
    language_loss,
    pool_phrases,
)
from mvp_mm.models.losses import ImageShares, reduce_over_ranks
from mvp_mm.models.losses.weighted_sum import WeightedSum
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.checkpoint_io import read_checkpoint


class KeptLanguage(nn.Module):
    """Computes what the connector and LLM of a trained model give the perception head.

    Args:
        weights: Checkpoint of that model, a published folder or a name of the model zoo.
        connector: Config of its connector.
        llm: Config of its LLM.
        channels: Channels of the encoder's maps, finest first.
    """

    def __init__(self, weights: str, connector: dict, llm: dict, channels: list[int]) -> None:
        super().__init__()
        self.llm = MODELS.build(llm)
        self.connector = build_connector(connector, channels, self.llm.hidden_size)
        parts = ('connector.', 'llm.')
        state = read_checkpoint(weights)['state_dict']
        self.load_state_dict({k: v for k, v in state.items() if k.startswith(parts)})
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, features: list[Tensor], batch: InstructionBatch) -> LanguageOutput:
        """Read teacher-forced instructions about the encoder's maps (B, C_l, H_l, W_l)."""
        visual = connect(self.connector, features)
        embeds = insert_visual_tokens(self.llm.embed(batch.ids), visual, batch)
        states = self.llm(embeds, batch.mask, batch.host and batch.host.layout)
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        return LanguageOutput(
            pool_phrases(states, batch.phrase_index, batch.phrase_mask.shape[1]),
            states[-1][rows, batch.per_position])


@MODELS.register_module()
class CaptionTuning(MVPLM):
    """Learns captions with connector and LLM while the inputs of the perception head stay.

    The perception head reads two things of the LLM: the pooled phrases and the state of
    ``<PER>``. Both are held to what a trained model gives for the same instruction, by the mean
    squared difference in units of that model's variance. Encoder, pixel decoder and perception
    head do not train, so they need not run backwards; the last two do not run at all. Checkpoints
    hold what an :class:`~mvp_mm.models.MVPLM` holds.

    Args:
        kept: ``weights`` and ``connector`` of the trained model, see :class:`KeptLanguage`. It has
            the same encoder and an LLM of the same config.
        kept_weight: Weight of both differences.
        **kwargs: As for :class:`~mvp_mm.models.MVPLM`; ``trainable`` must be connector and LLM.

    Raises:
        ValueError: If other parts train, whose losses are not computed here.
    """

    def __init__(self, *, kept: dict, kept_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        trained = {name.partition('.')[0] for name, p in self.named_parameters() if p.requires_grad}
        if not trained <= {'connector', 'llm'}:
            raise ValueError(f'CaptionTuning trains connector and LLM alone; these train too: '
                             f'{sorted(trained - {"connector", "llm"})}')
        language = KeptLanguage(
            llm=kwargs['llm'], channels=self.encoder.out_channels, **kept)
        # No submodule: it belongs in no checkpoint.
        object.__setattr__(self, 'kept_language', language)
        self.kept_weight = kept_weight

    def loss(self, inputs: Tensor, data_samples: list[PerceptionDataSample]) -> dict[str, Tensor]:
        """Compute the language loss, ``loss_text`` and ``loss_summary``."""
        batch = InstructionBatch.collate(data_samples, inputs.device, self.per_id)
        features = self.encoder(inputs)
        hidden, language = self.forward_llm(ImageState(connect(self.connector, features)), batch)
        shares = ImageShares.of(batch.image_index, len(inputs))
        sums = dict(loss_llm=language_loss(
            self.llm, hidden, batch.labels, shares, batch.host.supervised))
        kept = self.kept_language.to(inputs.device)(features, batch)
        perceiving = batch.needs_decoder
        sums['loss_text'] = difference(
            language.text, kept.text, batch.phrase_mask & perceiving[:, None])
        sums['loss_summary'] = difference(language.summary, kept.summary, perceiving)
        for name in ('loss_text', 'loss_summary'):
            sums[name] = sums[name].scaled(self.kept_weight)
        return reduce_over_ranks(sums)


def difference(found: Tensor, kept: Tensor, valid: Tensor) -> WeightedSum:
    """Compare vectors (..., D) where ``valid`` (...): squared differences over the variance.

    Returns:
        The sum over the valid vectors of the mean over D, and their number.
    """
    weight = valid.flatten()[:, None].float()
    found, kept = (value.flatten(0, -2).float() * weight for value in (found, kept))
    count = valid.sum()
    at_least_one = count.clamp(min=1)
    deviation = (kept - kept.sum(0) / at_least_one) * weight
    variance = deviation.square().mean(-1).sum() / at_least_one
    return WeightedSum(
        (found - kept).square().mean(-1).sum() / variance.clamp(min=1e-6), count)
