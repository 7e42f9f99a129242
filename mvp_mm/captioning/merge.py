# Copyright (c) mvp_mm authors. All rights reserved.
"""Checks that captioners left nothing out, and joins what they wrote into one file."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mvp_mm.datasets.captions.keys import caption_key
from mvp_mm.datasets.captions.records import image_line, parse_image, read_lines, torn_tail
from mvp_mm.datasets.captions.shards import list_digest, read_image_list, write_atomically
from mvp_mm.datasets.captions.sources import ShardedSource, manifest_path

_SHOWN = 5


@dataclass
class Coverage:
    """What a captioner has and lacks.

    Attributes:
        captioned: Number of images with a caption.
        missing: Images without.
        failed: Of these, the ones that could not be captioned, with the reason.
        missing_shards: Shards of which there is nothing.
        duplicates: Images captioned twice, with both places.
        unknown: Images that are not on the list.
        torn: Files that end in a torn line.
        conflicts: Shards whose manifest differs from the first one's.
    """

    captioned: int = 0
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    missing_shards: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every image was captioned once, by one model asked one way."""
        return not (self.missing or self.missing_shards or self.duplicates or self.unknown
                    or self.conflicts)


class StoreCheck:
    """Reads a folder of captions and compares it with its list of images.

    Args:
        store: The folder.

    Attributes:
        images: Number of images of the list.
        coverage: By captioner.
        source: The captions; of duplicates the first.

    Raises:
        FileNotFoundError: If the folder or its list of images does not exist.
        ValueError: If a line is broken, naming file and line.
    """

    def __init__(self, store: str | Path) -> None:
        self.store = Path(store)
        names = read_image_list(self.store)
        self.images = len(names)
        duplicates: list[tuple[str, str, str]] = []
        self.source = ShardedSource(store, lambda *found: duplicates.append(found))
        self.coverage = {name: self._check(name, names) for name in self.source.captioners}
        for image, first, second in duplicates:
            self.coverage[Path(first.split(', line ')[0]).parent.name].duplicates.append(
                (image, first, second))

    @property
    def complete(self) -> bool:
        """Whether no captioner lacks anything."""
        return all(coverage.complete for coverage in self.coverage.values())

    def _check(self, captioner: str, names: list[str]) -> Coverage:
        coverage = Coverage()
        shards = self.source.shards[captioner]
        first = shards[0][1]
        digest = list_digest(names)
        for files, manifest in shards:
            differences = first.differences(manifest)
            if manifest.images_sha256 != digest:
                differences.append('made for another list of images')
            if differences:
                coverage.conflicts.append(f'{files.manifest}: {"; ".join(differences)}')
        there = {manifest.shard.index for _, manifest in shards}
        coverage.missing_shards = [f'{index}/{first.shard.count}'
                                   for index in range(first.shard.count) if index not in there]
        numbers = self.source.numbers
        captioned = self.source.captioned(captioner)
        coverage.missing = [name for name in names
                            if (number := numbers.get(caption_key(name))) is None
                            or not captioned[number]]
        coverage.captioned = int(captioned.sum())
        if coverage.captioned > self.images - len(coverage.missing):
            listed = {caption_key(name) for name in names}
            coverage.unknown = [key for key, number in numbers.items()
                                if captioned[number] and key not in listed]
        self._read_failures(captioner, coverage)
        return coverage

    def _read_failures(self, captioner: str, coverage: Coverage) -> None:
        missing = set(coverage.missing)
        for files, _ in self.source.shards[captioner]:
            for path in (files.captions, files.failures):
                if path.is_file() and torn_tail(path):
                    coverage.torn.append(str(path))
            for line in read_lines(files.failures) if files.failures.is_file() else ():
                image = parse_image(line.content, f'{files.failures}, line {line.number}')
                if image in missing:
                    coverage.failed[image] = str(line.content.get('error', ''))

    def report(self) -> dict[str, Any]:
        """Everything that was found, as plain data."""
        return dict(store=str(self.store), images=self.images, complete=self.complete,
                    captioners={name: asdict(coverage)
                                for name, coverage in self.coverage.items()})

    def summary(self) -> str:
        """What was found, for a reader."""
        lines = [f'{self.store}: {self.images} images, {len(self.coverage)} captioners']
        for name, found in self.coverage.items():
            lines.append(f'{name}: {found.captioned} captioned, {len(found.missing)} missing')
            details = [f'{image} cannot be captioned: {error}'
                       for image, error in found.failed.items()]
            details += [f'{image} is missing' for image in found.missing
                        if image not in found.failed]
            for texts in (details, [f'shard {shard} is missing' for shard in found.missing_shards],
                          [f'{image} twice: {first} and {second}'
                           for image, first, second in found.duplicates],
                          [f'{image} is not on the list' for image in found.unknown],
                          [f'{file} ends in a torn line' for file in found.torn],
                          [f'conflict: {conflict}' for conflict in found.conflicts]):
                lines += [f'  {text}' for text in texts[:_SHOWN]]
                if len(texts) > _SHOWN:
                    lines.append(f'  ... and {len(texts) - _SHOWN} more of this kind')
        return '\n'.join(lines)


def write_merged(check: StoreCheck, out: str | Path) -> int:
    """Write the captions of all captioners to one file, one image per line, sorted.

    Args:
        check: The folder, read.
        out: The JSONL file; its manifest goes beside it.

    Returns:
        Number of images written.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'.{out.name}.part')
    written = 0
    with open(part, 'w', encoding='utf-8') as file:
        for entry in tqdm(check.source, desc='merging', total=len(check.source), unit='img',
                          mininterval=1.0):
            file.write(image_line(entry))
            written += 1
    manifests = {name: [asdict(manifest) for _, manifest in shards][0]
                 for name, shards in check.source.shards.items()}
    for manifest in manifests.values():
        del manifest['shard']
    write_atomically(manifest_path(out), json.dumps(
        dict(captioners=check.source.captioners, complete=check.complete, refined=None,
             manifests=manifests), indent=1) + '\n')
    part.replace(out)
    return written
