# Copyright (c) mvp_mm authors. All rights reserved.
"""Refines a whole file of captions and reports what was removed and why."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from mvp_mm.captioning.judging import judge_all
from mvp_mm.datasets.captions.keys import caption_key
from mvp_mm.datasets.captions.records import Caption, ImageCaptions, image_line
from mvp_mm.datasets.captions.refine import CaptionRefiner, Verdict
from mvp_mm.datasets.captions.shards import write_atomically
from mvp_mm.datasets.captions.sources import CaptionSource, manifest_path

_SHOWN_WORDS = 30


class RefineReport:
    """Counts what a refiner does, and keeps examples drawn evenly over the whole file.

    Args:
        examples: Examples kept for each reason.
        seed: Seed of their drawing.
    """

    def __init__(self, examples: int = 10, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.captioners: dict[str, Counter[str]] = {}
        self.examples: dict[str, list[dict[str, str]]] = {}
        self._limit = examples
        self._seen: Counter[str] = Counter()
        self._rng = Random(seed)

    def add(self, entry: ImageCaptions, verdicts: Sequence[Verdict]) -> None:
        """Count one image."""
        self.counts['images'] += 1
        self.counts['images left without'] += not any(verdict.kept for verdict in verdicts)
        for caption, verdict in zip(entry.captions, verdicts, strict=True):
            outcome = verdict.reason or ('shortened' if verdict.removals else 'unchanged')
            self.counts['captions'] += 1
            self.captioners.setdefault(caption.captioner, Counter())[outcome] += 1
            if verdict.reason:
                self.dropped[verdict.reason] += 1
                self._example(f'dropped: {verdict.reason}', entry.image, caption, verdict.detail)
            else:
                self.counts[outcome] += 1
            for removal in verdict.removals:
                self.removed[removal.reason] += 1
                if removal.evidence:
                    self.words[removal.evidence.lower()] += 1
                self._example(f'sentence removed: {removal.reason}', entry.image, caption,
                              removal.evidence, removal.sentence)

    def _example(self, kind: str, image: str, caption: Caption, detail: str,
                 sentence: str = '') -> None:
        self._seen[kind] += 1
        example = dict(image=image, captioner=caption.captioner, caption=caption.text,
                       detail=detail, **({'sentence': sentence} if sentence else {}))
        kept = self.examples.setdefault(kind, [])
        if len(kept) < self._limit:
            kept.append(example)
        elif (place := self._rng.randrange(self._seen[kind])) < self._limit:
            kept[place] = example

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return dict(
            **{key: self.counts[key] for key in ('images', 'images left without', 'captions',
                                                 'unchanged', 'shortened')},
            dropped=dict(self.dropped.most_common()),
            sentences_removed=dict(self.removed.most_common()),
            hedging_words=dict(self.words.most_common()),
            captioners={name: dict(counts.most_common())
                        for name, counts in self.captioners.items()},
            examples=self.examples)

    def as_text(self) -> str:
        """The report for a reader."""
        counts, total = self.counts, max(self.counts['captions'], 1)

        def share(number: int) -> str:
            return f'{number} ({100 * number / total:.2f} %)'

        lines = [f'{counts["captions"]} captions of {counts["images"]} images',
                 f'unchanged {share(counts["unchanged"])}, shortened {share(counts["shortened"])}, '
                 f'dropped {share(sum(self.dropped.values()))}',
                 f'images left without a caption: {counts["images left without"]}']
        lines += [f'  dropped, {reason}: {share(number)}'
                  for reason, number in self.dropped.most_common()]
        lines += [f'  sentences removed, {reason}: {number}'
                  for reason, number in self.removed.most_common()]
        if self.words:
            lines.append('hedging words: ' + ', '.join(
                f'{word} {number}' for word, number in self.words.most_common(_SHOWN_WORDS)))
        for name, outcomes in self.captioners.items():
            lines.append(f'{name or "unnamed captioner"}: ' + ', '.join(
                f'{outcome} {number}' for outcome, number in outcomes.most_common()))
        for kind, examples in self.examples.items():
            lines += ['', f'{kind}, {len(examples)} of {self._seen[kind]}']
            for example in examples:
                detail = f' [{example["detail"]}]' if example['detail'] else ''
                text = example.get('sentence', example['caption'])
                lines.append(f'  {example["image"]}{detail}: {text!r}')
        return '\n'.join(lines) + '\n'


def write_refined(source: CaptionSource, refiner: CaptionRefiner, out: str | Path,
                  examples: int = 10, workers: int = 1) -> RefineReport:
    """Write the captions that stay to one JSONL file, with a manifest and the report beside it.

    Images that lose every caption stay in the file without one, so that they are known.

    Args:
        source: The captions.
        refiner: What cleans them.
        out: The JSONL file; ``<out>.report.json`` and ``<out>.report.txt`` go beside it.
        examples: Examples of each reason in the report.
        workers: Processes that judge.

    Raises:
        ValueError: If the output is the source, or two images have one name.
    """
    out = Path(out)
    if out.resolve() == source.path.resolve():
        raise ValueError(f'{out} is the source itself')
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'.{out.name}.part')
    report = RefineReport(examples)
    seen: set[str] = set()
    with open(part, 'w', encoding='utf-8') as file:
        judged = judge_all(source, refiner, workers)
        for entry, verdicts in tqdm(judged, desc='refining', unit='img', mininterval=1.0):
            key = caption_key(entry.image)
            if key in seen:
                raise ValueError(f'{source.path}: two images are named {key}')
            seen.add(key)
            report.add(entry, verdicts)
            file.write(image_line(ImageCaptions(entry.image, tuple(
                Caption(caption.captioner, verdict.text)
                for caption, verdict in zip(entry.captions, verdicts, strict=True)
                if verdict.kept))))
    write_atomically(manifest_path(out), json.dumps(
        dict(captioners=source.captioners, source=source.path.name, refined=refiner.settings),
        indent=1) + '\n')
    write_atomically(Path(f'{out}.report.json'), json.dumps(report.as_dict(), indent=1) + '\n')
    write_atomically(Path(f'{out}.report.txt'), report.as_text())
    part.replace(out)
    return report
