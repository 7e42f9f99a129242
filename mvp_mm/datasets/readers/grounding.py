# Copyright (c) mvp_mm authors. All rights reserved.
"""MDETR-style grounding JSON: boxes tied to spans of the image's caption (GoldG)."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import CocoLayout, Images, Record
from mvp_mm.datasets.vocabulary.frequent_phrases import PhraseCounter
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import ID_OR_TEXT, LIST, STRING
from mvp_mm.utils.texts import is_visible, shown

_EDGES = ' \t\n.,;:!?()[]"\''


class BadSpansError(ValueError):
    """Spans that hold no phrase of their caption."""


def phrase_of(caption: str, spans: list[list[int]]) -> str:
    """The text of some spans of a caption, in lower case, without punctuation at its edges.

    Raises:
        BadSpansError: If they lie outside the caption or hold no word.
    """
    whole = isinstance(spans, list) and all(
        isinstance(s, list) and len(s) == 2 and all(type(end) is int for end in s) for s in spans)
    if not whole or any(not 0 <= start < end <= len(caption) for start, end in spans):
        raise BadSpansError(f'has spans {shown(spans)} outside the caption, which has '
                            f'{len(caption)} characters')
    text = ' '.join(caption[start:end].strip(_EDGES) for start, end in sorted(spans))
    text = ' '.join(text.lower().split())
    if not is_visible(text):
        raise BadSpansError(f'has spans {spans} that hold no word')
    return text


class GroundingLayout(CocoLayout):
    """Images with captions, boxes with spans; objects have no class.

    Args:
        vocabulary_size: Number of phrases in the vocabulary.
        with_coco: Whether images of COCO are used.
    """

    image = CocoLayout.image.but(caption=STRING)
    annotation = CocoLayout.annotation.but(
        without=('category_id',), id=ID_OR_TEXT, tokens_positive=LIST)
    object_records = True
    image_records = 'images'
    version = 2

    def __init__(self, vocabulary_size: int, with_coco: bool) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.with_coco = with_coco
        self.name = f'grounding-{vocabulary_size}{"-coco" if with_coco else ""}'

    def summarize(self, index: Images, faults: Faults) -> Record:
        """What the dataset needs to know of the whole file.

        Returns:
            The ``phrases`` of the vocabulary, the rows ``left_out`` and those in use that are
            ``ungrounded``, without a phrase that has a box; the number of ``nameless`` boxes.
        """
        counter = PhraseCounter(self.vocabulary_size)
        left_out: list[int] = []
        ungrounded: list[int] = []
        nameless = 0
        for row in range(len(index)):
            image = index.image_record(row)
            if image.get('data_source') == 'coco' and not self.with_coco:
                left_out.append(row)
                continue
            # In the order of the file, which then decides between equally frequent phrases.
            found: dict[str, None] = {}
            objects = index.image(row)[1]
            grounded = False
            for record, is_crowd in zip(index.records(objects), objects['crowd'], strict=True):
                if not record['tokens_positive']:
                    nameless += 1
                    continue
                try:
                    found[phrase_of(image['caption'], record['tokens_positive'])] = None
                except BadSpansError as error:
                    faults('span outside the caption',
                           f'annotation {record["id"]} of image {image["id"]}', str(error))
                else:
                    grounded |= not is_crowd
            counter.add(found)
            if not grounded:
                ungrounded.append(row)
        return dict(phrases=counter.most_frequent(), left_out=left_out, ungrounded=ungrounded,
                    nameless=nameless)


@DATASETS.register_module()
class GroundingDataset(PerceptionDataset):
    """Boxes with phrases of a caption.

    A box's phrase is the text of its ``tokens_positive`` spans, in lower case; boxes with the
    same phrase are its targets. The vocabulary, from which a task may draw negatives, holds the
    dataset's most frequent phrases; objects have no class.

    Images whose ``data_source`` is ``coco`` (``final_mixed_train.json`` mixes COCO 2014 with Visual
    Genome) lie in ``data_prefix['coco']``; without this key they are left out and their number is
    logged, which is what ``final_mixed_train_no_coco.json`` amounts to. Boxes that no phrase names
    (empty ``tokens_positive``) are left out and counted too. So are, in evaluation by grounding
    alone, captions of which no phrase has a box that is not a crowd: they ask nothing.

    Args:
        *args: See :class:`PerceptionDataset`.
        vocabulary_size: Number of phrases in the vocabulary.
        **kwargs: See :class:`PerceptionDataset`.
    """

    own_captions = True

    def __init__(self, *args: Any, vocabulary_size: int = 10000, **kwargs: Any) -> None:
        self.vocabulary_size = vocabulary_size
        super().__init__(*args, **kwargs)

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        index = CocoIndex(
            self.ann_file, GroundingLayout(self.vocabulary_size, 'coco' in self.data_prefix),
            self.index_dir, self.faults_of(self.ann_file))
        phrases = index.facts['summary']['phrases']
        self.set_classes(phrases, [True] * len(phrases))
        return index

    def used_rows(self, index: CocoIndex) -> np.ndarray:
        """See :meth:`PerceptionDataset.used_rows`."""
        summary = index.facts['summary']
        self._tell(len(summary['left_out']),
                   "images of COCO left out, for which data_prefix has no 'coco'")
        self._tell(summary['nameless'], 'boxes without a phrase left out')
        left_out = summary['left_out']
        if self.test_mode and self.tasks and all(task.name == 'grounding' for task in self.tasks):
            self._tell(len(summary['ungrounded']), 'captions without a grounded phrase left out')
            left_out = left_out + summary['ungrounded']
        return np.setdiff1d(np.arange(len(index)), left_out)

    def _tell(self, number: int, what: str) -> None:
        if number:
            self.faults_of(self.ann_file).note(what, number)
            print_log(f'{Path(self.ann_file).name}: {number} {what}', logger='current')

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        image = index.image_record(row)
        objects = index.image(row)[1]
        spans: dict[str, list[int]] = {}
        kept: list[int] = []
        for place, record in enumerate(index.records(objects)):
            if record['tokens_positive']:
                try:
                    phrase = phrase_of(image['caption'], record['tokens_positive'])
                except BadSpansError:
                    # Told when the index was made: only a check gets here.
                    continue
                spans.setdefault(phrase, []).append(len(kept))
                kept.append(place)
        source = 'coco' if image.get('data_source') == 'coco' else 'img'
        return dict(
            img_path=str(Path(self.data_prefix[source]) / image['file_name']),
            img_id=image['id'],
            file_name=image['file_name'],
            height=image['height'],
            width=image['width'],
            boxes=objects['box'][kept],
            labels=np.full(len(kept), -1, dtype=np.int64),
            crowd=objects['crowd'][kept],
            captions=[image['caption']],
            caption_spans=list(spans.items()))
