# Copyright (c) mvp_mm authors. All rights reserved.
"""A training step on made-up images and instructions, for counting and timing."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor

from mvp_mm.analysis.operations import OperationCounter
from mvp_mm.analysis.single_calls import SingleCalls
from mvp_mm.analysis.synthetic_batch import canvas_side, make_samples
from mvp_mm.models import MVPLM
from mvp_mm.models.data_preprocessor import masks_on_device
from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample

# Widths of a Swin and Phi model that leave all layers in place.
NARROW = {
    'canvas': (256, 256),
    'model.tokenizer.num_visual_tokens': 16,
    'model.embed_dims': 64,
    'model.encoder.backbone.embed_dims': 32,
    'model.encoder.backbone.num_heads': [1, 2, 4, 8],
    'model.llm.config.hidden_size': 64,
    'model.llm.config.intermediate_size': 128,
    'model.llm.config.num_attention_heads': 4,
    'model.llm.config.vocab_size': 2000,
    'model.perception.matcher.num_points': 256,
    'model.perception.criterion.num_points': 256,
}


def forget_weights(model: ConfigDict) -> None:
    """Have a model's config build random weights in place of those of files."""
    model.llm.pretrained = None
    if 'pretrained_path' in model.encoder.backbone:
        model.encoder.backbone.pretrained_path = None


@dataclass
class MadeUpStep:
    """A model with random weights, its optimizer, and one batch.

    Attributes:
        model: In training mode.
        optimizer: The config's, without autocast, which :attr:`dtype` asks for.
        images: (B, 3, H, W).
        samples: R samples with targets.
        dtype: What the forward pass computes in under autocast; None for float32.
    """

    model: MVPLM
    optimizer: OptimWrapper
    images: Tensor
    samples: list[PerceptionDataSample]
    dtype: torch.dtype | None = torch.bfloat16

    @classmethod
    def build(cls, cfg: Config, images: int | None = None, sentences: int = 2, words: int = 133,
              dtype: torch.dtype | None = torch.bfloat16,
              device: torch.device | str = 'cpu') -> MadeUpStep:
        """Build a config's model and make up a batch for it; no files are read.

        Args:
            cfg: A loaded config; its parts forget their files of weights.
            images: Images; None for the config's own number.
            sentences: Sentences about each image, beside one word list.
            words: Names in the word list.
            dtype: See :attr:`dtype`.
            device: Where the model and the batch go.
        """
        init_default_scope(cfg.get('default_scope', 'mvp_mm'))
        torch.manual_seed(0)
        forget_weights(cfg.model)
        model = MODELS.build(cfg.model).to(device).train()
        # In place of the tokenizer's, so that no tokenizer is needed.
        model.per_id = model.llm.vocab_size - 1
        settings = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
        for name in ('dtype', 'loss_scale'):
            settings.pop(name, None)
        side, visual = canvas_side(cfg), cfg.model.tokenizer.num_visual_tokens
        count = images or cfg.train_dataloader.batch_size
        samples = make_samples(count, sentences, side, visual, model.llm.vocab_size, words)
        samples = [masks_on_device(sample, device) for sample in samples]
        return cls(model, build_optim_wrapper(model, settings),
                   torch.randn(count, 3, side, side, device=device), samples, dtype)

    def autocast(self) -> AbstractContextManager:
        """The context that the forward pass runs in."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.images.device.type, self.dtype)

    def loss(self) -> Tensor:
        """Run the forward pass; returns the total loss ()."""
        with self.autocast():
            return self.model.parse_losses(self.model.loss(self.images, self.samples))[0]

    def run(self) -> None:
        """Take one step of the optimizer; nothing is waited for."""
        self.optimizer.update_params(self.loss())

    def count(self, calls: SingleCalls | None = None) -> OperationCounter:
        """Take a step and count what each of its parts dispatches.

        An optimizer sets up its state in its first step, regions are compiled in theirs: take
        steps before.

        Args:
            calls: What has accelerated the model and counts as one operation per call.
        """
        counter = OperationCounter()
        perception = self.model.perception
        with counter, calls.told_to(counter) if calls else nullcontext():
            for owner, method, part in (
                    (self.model.encoder, 'forward', 'encoder'),
                    (self.model.connector, 'forward', 'connector'),
                    (self.model.pixel_decoder, 'forward', 'pixel decoder'),
                    (self.model.llm, 'forward', 'LLM'),
                    (perception, 'loss', 'queries and heads'),
                    (perception.decoder, 'forward', 'decoder'),
                    (perception.matcher, 'forward', 'matching'),
                    (perception.criterion, 'sample', 'losses'),
                    (perception.criterion, 'forward', 'losses')):
                counter.watch(owner, method, part)
            total = self.loss()
            with counter.backward_of(total):
                self.optimizer.backward(total)
            with counter.part('optimizer'):
                self.optimizer.step()
                self.optimizer.zero_grad()
        return counter
