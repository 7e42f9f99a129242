# Copyright (c) mvp_mm authors. All rights reserved.
"""Saves and loads models as one folder, here or on the Hugging Face Hub."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from mvp_mm.apis.model_card import PAPER, model_card
from mvp_mm.apis.published import TOKENIZER, save_published
from mvp_mm.utils.named_weights import SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from mvp_mm.apis.inferencer import PerceptionInferencer

Model = TypeVar('Model', bound='HubModel')


class HubModel(ModelHubMixin, library_name='mvp_mm', paper_url=PAPER):
    """Adds ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    A folder holds ``model.safetensors``, ``config.json``, the tokenizer's files and a model card,
    ``README.md``. Reading it executes nothing.
    """

    _inferencer: PerceptionInferencer

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the model into a new folder.

        Args:
            save_directory: A folder that does not exist or is empty; its name is the model's in
                the card.
            **options: ``model_card_kwargs``, see :func:`~mvp_mm.apis.model_card.model_card`
                (``license``, ``datasets``, ``metrics``), and ``push_to_hub``, ``repo_id`` and
                others of :class:`huggingface_hub.ModelHubMixin`.

        Raises:
            FileExistsError: If the folder is not empty; nothing in it is touched.
            ValueError: If the model is accelerated: its weights may be rounded.
        """
        if self._inferencer.accelerated:
            raise ValueError('An accelerated model cannot be saved: load it without acceleration')
        folder = Path(save_directory)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f'{folder} exists and is not an empty folder')
        card = dict(options.pop('model_card_kwargs', None) or {})
        card.setdefault('name', folder.name)
        # The card is made first: a wrong argument must not leave half a folder.
        self.generate_model_card(**card)
        return super().save_pretrained(folder, model_card_kwargs=card, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        inferencer = self._inferencer
        save_published(save_directory, inferencer.model, inferencer.config,
                       inferencer.trained_classes)

    @classmethod
    def from_pretrained(cls: type[Model], pretrained_model_name_or_path: str | Path,
                        **options: Any) -> Model:
        """Load a folder of :meth:`save_pretrained`, a model of the zoo or a repository of the hub.

        Args:
            pretrained_model_name_or_path: The folder, a name of the model zoo, or
                ``organisation/name``.
            **options: ``device``, ``dtype`` and ``acceleration`` of the model; ``revision``,
                ``token``, ``cache_dir``, ``force_download`` and ``local_files_only`` of the hub.

        Raises:
            FileNotFoundError: If there is no such folder or name.
            ValueError: If a file is damaged, or the config names anything but components of
                mvp_mm and files of the folder.
        """
        return cls._from_pretrained(model_id=str(pretrained_model_name_or_path), **options)

    @classmethod
    def _from_pretrained(cls: type[Model], *, model_id: str, device: Any = None,
                         dtype: Any = None, acceleration: Any = None,
                         **hub: Any) -> Model:
        source = model_id
        if '/' in model_id and not Path(model_id).is_dir():
            # Only what is read; a repository may hold anything.
            source = snapshot_download(
                model_id, allow_patterns=[WEIGHTS, SETTINGS, f'{TOKENIZER}/*'], **hub)
        return cls(source, device=device, dtype=dtype, acceleration=acceleration)

    def generate_model_card(self, *, name: str = 'mvp_mm model', **card: Any) -> ModelCard:
        """Make the model card; see :func:`~mvp_mm.apis.model_card.model_card`."""
        network = self._inferencer.model
        return model_card(name, self._inferencer.config,
                          sum(p.numel() for p in network.parameters()), **card)
