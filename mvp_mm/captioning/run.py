# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions one shard, resuming where a killed run stopped."""
from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.logging import print_log
from tqdm import tqdm

from mvp_mm.captioning.backends import (
    Answer,
    CaptionBackend,
    CaptionerError,
    CaptionSampling,
    ImageError,
)
from mvp_mm.captioning.images import ImageSet
from mvp_mm.datasets.captions.records import (
    Caption,
    caption_line,
    parse_image,
    read_lines,
    torn_tail,
)
from mvp_mm.datasets.captions.shards import (
    IMAGE_LIST,
    Manifest,
    Shard,
    ShardFiles,
    check_captioner,
    list_digest,
    read_image_list,
    shards_of,
    write_atomically,
)

_SYNC_SECONDS = 5.0


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        images: Images of the shard.
        before: Of these, captioned by earlier runs.
        captioned: Captioned now.
        failed: Images that cannot be captioned, with the reason; of this and earlier runs.
        unanswered: Images that got no answer, with the reason; the next run asks again.
    """

    images: int
    before: int
    captioned: int
    failed: dict[str, str]
    unanswered: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether every image has its caption."""
        return self.before + self.captioned == self.images


class AppendFile:
    """A JSONL file to which whole lines are added.

    What a killed run left of a line is cut off, with a word to the log. Every line reaches the
    operating system before the next, and the disk every few seconds.

    Args:
        path: The file, made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        torn = torn_tail(path) if path.is_file() else 0
        if torn:
            os.truncate(path, path.stat().st_size - torn)
            print_log(f'{path}: the last line was torn, {torn} bytes cut off', logger='current')
        self._file = open(path, 'ab', buffering=0)  # noqa: SIM115
        self._synced = time.monotonic()
        if path.stat().st_size and not _ends_with_break(path):
            self._file.write(b'\n')

    def add(self, line: str) -> None:
        """Add a line, its break included."""
        self._file.write(line.encode())
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Bring everything to the disk."""
        self._sync()
        self._file.close()

    def __enter__(self) -> AppendFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _ends_with_break(path: Path) -> bool:
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b'\n'


def make_manifest(captioner: str, backend: CaptionBackend, prompt: str, sampling: CaptionSampling,
                  names: Sequence[str], shard: Shard) -> Manifest:
    """The manifest of a run."""
    return Manifest(
        captioner=check_captioner(captioner), backend=backend.name, model=backend.model,
        prompt=prompt, sampling=dict(asdict(sampling), **backend.settings), images=len(names),
        images_sha256=list_digest(names), shard=shard)


def claim(store: Path, manifest: Manifest, names: Sequence[str]) -> ShardFiles:
    """Put down what a shard is made of, or check that it is what was put down before.

    Raises:
        ValueError: If the store captions other images, or another run of this captioner had
            another model, prompt, sampling or number of shards.
    """
    files = ShardFiles(store / manifest.captioner, manifest.shard)
    if (store / IMAGE_LIST).is_file():
        known = read_image_list(store)
        if known != list(names):
            new, gone = sorted(set(names) - set(known)), sorted(set(known) - set(names))
            raise ValueError(
                f'{store / IMAGE_LIST} lists other images: {len(new)} are new {new[:3]}, '
                f'{len(gone)} are gone {gone[:3]}; take another folder for another set')
    if store.is_dir():
        for other, theirs in shards_of(store).get(manifest.captioner, ()):
            differences = manifest.differences(theirs)
            if differences:
                raise ValueError(f'{other.manifest} was made otherwise, take another captioner '
                                 f'name or folder: {"; ".join(differences)}')
    if not (store / IMAGE_LIST).is_file():
        write_atomically(store / IMAGE_LIST, ''.join(f'{name}\n' for name in names))
    if not files.manifest.is_file():
        manifest.save(files.manifest)
    return files


def _recorded(path: Path) -> dict[str, str]:
    """Images of a file, with the error where it lists errors."""
    if not path.is_file():
        return {}
    return {parse_image(line.content, f'{path}, line {line.number}'):
            str(line.content.get('error', '')) for line in read_lines(path)}


def _caption_line(image: str, answer: Answer) -> str:
    return caption_line(image, Caption('', *answer))


def caption_shard(store: Path, manifest: Manifest, images: ImageSet, backend: CaptionBackend, *,
                  retry_failed: bool = False, max_failures_in_a_row: int = 50,
                  line: Callable[[str, Answer], str] = _caption_line,
                  in_order: bool = False) -> RunReport:
    """Caption the images of a shard that have no caption yet.

    Args:
        store: Folder of the captions.
        manifest: See :func:`make_manifest`.
        images: All images, of all shards.
        backend: The captioner.
        retry_failed: Ask again about images that an earlier run could not caption.
        max_failures_in_a_row: Stop after so many failures without a caption between them.
        line: Makes the line of an image in the file.
        in_order: Write the lines in the order of the images, not of their answers.

    Raises:
        CaptionerError: If the captioner cannot caption anything, or failed too often in a row.
        ValueError: See :func:`claim`; or if another process captions this shard.
    """
    files = claim(store, manifest, images.names)
    try:
        with FileLock(files.lock, timeout=0):
            return _caption_claimed(files, images, backend, retry_failed, max_failures_in_a_row,
                                    line, in_order)
    except Timeout as error:
        raise ValueError(f'{files.captions} is being written by another process') from error


def _caption_claimed(files: ShardFiles, images: ImageSet, backend: CaptionBackend,
                     retry_failed: bool, max_failures: int,
                     line: Callable[[str, Answer], str], in_order: bool) -> RunReport:
    names = images.names[files.shard.index::files.shard.count]
    with AppendFile(files.captions) as captions, AppendFile(files.failures) as failures:
        done = _recorded(files.captions)
        failed = {name: error for name, error in _recorded(files.failures).items()
                  if name not in done}
        todo = [name for name in names if name not in done
                and (retry_failed or name not in failed)]
        report = RunReport(len(names), len(done), 0, failed, {})
        in_a_row = 0
        answers = _answers(todo, images, backend, in_order)
        try:
            for name, answer in tqdm(answers, desc=f'{files.folder.name} {files.shard}',
                                     total=len(names), initial=len(names) - len(todo),
                                     unit='img', mininterval=1.0):
                if isinstance(answer, Answer):
                    captions.add(line(name, answer))
                    report.captioned += 1
                    failed.pop(name, None)
                    in_a_row = 0
                    continue
                in_a_row += 1
                if isinstance(answer, ImageError):
                    failures.add(json.dumps(dict(image=name, error=str(answer))) + '\n')
                    failed[name] = str(answer)
                else:
                    report.unanswered[name] = str(answer)
                if in_a_row >= max_failures:
                    raise CaptionerError(f'{in_a_row} images failed in a row, the last: {answer}')
        finally:
            answers.close()
    return report


def _answers(names: Sequence[str], images: ImageSet,
             backend: CaptionBackend,
             in_order: bool) -> Iterator[tuple[str, Answer | Exception]]:
    """Answers as they come, or in order, with ``backend.concurrency`` calls at a time at most."""
    batches = iter([names[start:start + backend.batch_size]
                    for start in range(0, len(names), backend.batch_size)])
    running: dict[Future, Sequence[str]] = {}
    # In order, answers wait for the oldest: the next calls must not.
    most = backend.concurrency * (2 if in_order else 1)
    with ThreadPoolExecutor(backend.concurrency) as pool:
        try:
            while True:
                for batch in islice(batches, most - len(running)):
                    paths = [images.path(name) for name in batch]
                    running[pool.submit(backend.caption, paths)] = batch
                if not running:
                    return
                asked = list(running)[:1] if in_order else running
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    yield from zip(running.pop(future), future.result(), strict=True)
        finally:
            backend.stop()
            pool.shutdown(cancel_futures=True)


def summarise(report: RunReport) -> str:
    """What a run did, in a few lines."""
    lines = [f'{report.images} images: {report.before} captioned before, {report.captioned} now, '
             f'{len(report.failed)} cannot be, {len(report.unanswered)} got no answer']
    for kind, errors in (('cannot be captioned', report.failed),
                         ('got no answer', report.unanswered)):
        for error, count in Counter(errors.values()).most_common(5):
            example = next(name for name, text in errors.items() if text == error)
            lines.append(f'  {kind}: {count} x {error} (for example {example})')
    return '\n'.join(lines)
