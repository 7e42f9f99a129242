# Copyright (c) mvp_mm authors. All rights reserved.
"""MVP-LM with a GRPO loss beside the supervised ones (the paper's first open question)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mvp_mm.models import MVPLM
from mvp_mm.models.building import check_choice
from mvp_mm.models.llms.sampling import Sampling
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample
from projects.grpo.grpo.rollouts import (
    query_logits,
    query_rewards,
    referring_rows,
    response_log_prob,
    with_responses,
    write,
)


@dataclass(frozen=True)
class GRPOSettings:
    """Settings of the GRPO loss.

    Attributes:
        group: Answers G that are sampled per sentence.
        temperature: Temperature of response and query.
        weight: Weight of the loss; 0 samples nothing.
        reward: ``'mask'`` or ``'box'`` IoU.
        max_sentences: Sentences per batch, drawn at random, that answers are sampled for.
    """

    group: int = 4
    temperature: float = 1.0
    weight: float = 1.0
    reward: str = 'mask'
    max_sentences: int = 8

    def __post_init__(self) -> None:
        check_choice('grpo.reward', self.reward, ('mask', 'box'))
        for name, least in (('group', 2), ('max_sentences', 1), ('weight', 0)):
            if getattr(self, name) < least:
                raise ValueError(f'grpo.{name} must be at least {least}, got '
                                 f'{getattr(self, name)}')


def grpo_objective(log_prob: Tensor, reward: Tensor) -> Tensor:
    """Compute the policy-gradient loss with advantages relative to the group.

    Answers are used for one step only, so that no importance ratio is to be clipped; the
    supervised losses beside it take the place of a divergence from a reference model.

    Args:
        log_prob: (R, G) of the sampled answers.
        reward: (R, G).

    Returns:
        () loss; a group whose rewards are equal gives no gradient.
    """
    centred = reward - reward.mean(1, keepdim=True)
    advantage = centred / (reward.std(1, unbiased=False, keepdim=True) + 1e-4)
    return -(advantage.detach() * log_prob).mean()


@MODELS.register_module()
class GRPOMVPLM(MVPLM):
    """Adds ``loss_grpo`` to the losses of :class:`MVPLM`, which stay as they are.

    For each sentence with one target G answers are sampled: the LLM writes a response, and one
    of the queries decoded behind it is drawn by its score. The reward is the IoU of that query's
    mask or box with the target; ``grpo_reward`` (mean) and ``grpo_gap`` (best of G minus mean of
    G) are logged. The gradient reaches LLM and perception head, not the image encoder.

    Args:
        grpo: See :class:`GRPOSettings`.
        **kwargs: See :class:`MVPLM`.
    """

    def __init__(self, grpo: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grpo = GRPOSettings(**(grpo or {}))

    def loss(self, inputs: Tensor, data_samples: list[PerceptionDataSample]) -> dict[str, Tensor]:
        """Compute the supervised losses and the GRPO loss."""
        losses = super().loss(inputs, data_samples)
        rows = referring_rows(data_samples) if self.grpo.weight else []
        if not rows:
            zero = inputs.new_zeros(())
            return {**losses, 'loss_grpo': zero, 'grpo_reward': zero, 'grpo_gap': zero}
        order = torch.randperm(len(rows))[:self.grpo.max_sentences].tolist()
        log_prob, reward = self.sample_answers(inputs, data_samples, [rows[i] for i in order])
        return {**losses, 'loss_grpo': self.grpo.weight * grpo_objective(log_prob, reward),
                'grpo_reward': reward.mean(),
                'grpo_gap': (reward.amax(1) - reward.mean(1)).mean()}

    def sample_answers(self, inputs: Tensor, data_samples: list[PerceptionDataSample],
                       rows: list[int]) -> tuple[Tensor, Tensor]:
        """Sample G answers to some sentences.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: All samples of the batch.
            rows: Indices of R sentences with one target.

        Returns:
            Log-probabilities, with gradient, and rewards: (R, G) each.
        """
        settings, samples = self.grpo, [data_samples[row] for row in rows]
        with torch.no_grad():
            state = self.encode(inputs, data_samples)
        prompts = InstructionBatch.collate(samples, inputs.device)
        groups = [write(self, state, prompts, Sampling(
            settings.temperature, seed=int(torch.randint(2**31, ()))))
            for _ in range(settings.group)]
        # Row g · R + r is answer g to sentence r.
        tokens = [caption for group in groups for caption in group.captions]
        forced = [flag for group in groups for flag in group.forced]
        repeated = prompts.select(list(range(len(rows))) * settings.group)
        batch = with_responses(repeated, tokens)
        hidden, language = self.forward_llm(state, batch)
        found = self.perception.decode(state, batch, language.text, language.summary)
        policy = torch.distributions.Categorical(
            logits=query_logits(self, found) / settings.temperature)
        query = policy.sample()
        log_prob = policy.log_prob(query) + response_log_prob(
            self, hidden, batch.labels, forced, settings.temperature)
        rewards = query_rewards(found, samples * settings.group, self.perception.num_queries,
                                settings.reward)
        reward = rewards.gather(1, query[:, None])[:, 0]
        shape = (settings.group, len(rows))
        return log_prob.view(shape).T, reward.view(shape).T
