# Copyright (c) mvp_mm authors. All rights reserved.
"""Bring answers, predictions and labels into FiftyOne, and labels of FiftyOne to training.

Examples::

    python projects/fiftyone/bridge.py load photos --images images --labels labels.json
    python projects/fiftyone/bridge.py ask photos --weights MODEL --words "person,dog"
    python projects/fiftyone/bridge.py export photos --field ground_truth --out own
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.apis import MVP, Answer


def to_detections(answer: Answer, fo: Any) -> Any:
    """Give an answer's objects as ``fiftyone.Detections``.

    Args:
        answer: About one image.
        fo: The module ``fiftyone``.

    Returns:
        Boxes [x, y, width, height] as shares of the image's sides; masks, where the task gives
        some, cut out by the box's pixels. Objects of a panoptic answer know whether they are
        things (``isthing``).
    """
    height, width = answer.image_size
    found = []
    for index, (label, score) in enumerate(zip(answer.labels, answer.scores.tolist(), strict=True)):
        x1, y1, x2, y2 = answer.boxes[index].astype(float) / [width, height, width, height]
        extra: dict[str, Any] = {}
        if answer.compact_masks is not None:
            mask = answer.mask(index)
            # The mask decides: FiftyOne stretches what it is given over the box.
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                top, bottom = rows[0], rows[-1] + 1
                left, right = columns[0], columns[-1] + 1
                x1, y1, x2, y2 = left / width, top / height, right / width, bottom / height
                extra['mask'] = mask[top:bottom, left:right]
        if answer.segments is not None:
            extra['isthing'] = answer.segment_info[index]['isthing']
        found.append(fo.Detection(
            label=label, bounding_box=[x1, y1, x2 - x1, y2 - y1],
            confidence=None if np.isnan(score) else score, **extra))
    return fo.Detections(detections=found)


def to_segmentation(answer: Answer, fo: Any, classes: list[str]) -> Any:
    """Give a panoptic or semantic answer as ``fiftyone.Segmentation``.

    Args:
        answer: About one image.
        fo: The module ``fiftyone``.
        classes: Class k is k + 1 in the mask, 0 is nothing; new labels are appended.

    Raises:
        ValueError: If the task gives no segments.
    """
    if answer.segments is None:
        raise ValueError(f'Task {answer.task} gives no segments')
    mask = np.zeros(answer.image_size, dtype=np.uint16)
    for segment in answer.segments.info:
        if segment['label'] not in classes:
            classes.append(segment['label'])
        mask[answer.segment_map == segment['id']] = classes.index(segment['label']) + 1
    return fo.Segmentation(mask=mask)


def ask(dataset: Any, model: Any, field: str, fo: Any, **question: Any) -> None:
    """Ask one question about every image of a dataset and write the answers to its samples.

    ``<field>`` has the objects, ``<field>_caption`` what the LLM wrote, ``<field>_segments`` the
    segments of semantic and panoptic answers.

    Args:
        dataset: A FiftyOne dataset or view.
        model: An ``MVP``.
        field: Name of the samples' field.
        fo: The module ``fiftyone``.
        **question: Of ``MVP.stream``.

    Raises:
        ValueError: If a sample has such a field already.
    """
    taken = [name for name in (field, f'{field}_caption', f'{field}_segments')
             if dataset.has_field(name)]
    if taken:
        raise ValueError(f'The dataset has a field {taken[0]} already: choose another name')
    paths, classes = list(dataset.values('filepath')), []
    answers = model.stream(paths, **question)
    for sample, answer in zip(dataset.iter_samples(autosave=True), answers, strict=True):
        sample[field] = to_detections(answer, fo)
        if answer.caption:
            sample[f'{field}_caption'] = answer.caption
        if answer.segments is not None:
            sample[f'{field}_segments'] = to_segmentation(answer, fo, classes)
    if classes:
        owner = getattr(dataset, '_root_dataset', dataset)
        owner.mask_targets[f'{field}_segments'] = dict(enumerate(classes, 1))
        owner.save()


def load(name: str, images: Path, labels: Path, predictions: Iterable[Path], fo: Any) -> Any:
    """Make a dataset of images with COCO labels, and of predictions of ``tools/test.py --out``.

    Args:
        name: Of the new dataset.
        images: Their folder.
        labels: COCO JSON; its objects become ``ground_truth``.
        predictions: COCO results (``instances.json``); each becomes a field named after its file,
            with boxes or masks.
        fo: The module ``fiftyone``.

    Raises:
        ValueError: If there is such a dataset, or a file is not what it should be.
    """
    import fiftyone.utils.coco as fouc
    if fo.dataset_exists(name):
        raise ValueError(f'There is a dataset {name} already: choose another name')
    truth = _read(labels)
    if not isinstance(truth, dict) or not (truth.get('categories') and truth.get('images')):
        raise ValueError(f'{labels} is not COCO JSON: it lacks images or categories')
    ids = {str(image['id']) for image in truth['images']}
    found = {path.stem: _results(path, labels, ids) for path in predictions}
    dataset = fo.Dataset.from_dir(
        dataset_type=fo.types.COCODetectionDataset, data_path=str(images),
        labels_path=str(labels), name=name, label_field='ground_truth', include_id=True,
        label_types=['detections'])
    dataset.persistent = True
    categories = {c['id']: c['name'] for c in truth['categories']}
    for field, results in found.items():
        kind = 'segmentations' if results and 'segmentation' in results[0] else 'detections'
        fouc.add_coco_labels(dataset, field, results, categories, label_type=kind,
                             coco_id_field='coco_id')
    return dataset


def export(dataset: Any, field: str, folder: Path, fo: Any) -> None:
    """Write a dataset's images and objects as COCO JSON, which ``prepare_own_data.py`` takes.

    Args:
        dataset: A FiftyOne dataset or view.
        field: Of the objects, ``Detections`` or ``Polylines``.
        folder: A new one.
        fo: The module ``fiftyone``.

    Raises:
        FileExistsError: If the folder is there.
    """
    if folder.exists():
        raise FileExistsError(f'{folder} exists')
    dataset.export(export_dir=str(folder), dataset_type=fo.types.COCODetectionDataset,
                   label_field=field)


def _results(path: Path, labels: Path, ids: set[str]) -> list[dict]:
    results = _read(path)
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise ValueError(f'{path} is not a list of COCO results')
    unknown = {str(result.get('image_id')) for result in results} - ids
    if unknown:
        raise ValueError(f'{path}: image {min(unknown)} is not in {labels}')
    return results


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    made = commands.add_parser('load', help='make a dataset of COCO labels and predictions')
    made.add_argument('--images', type=Path, required=True)
    made.add_argument('--labels', type=Path, required=True, help='COCO JSON')
    made.add_argument('--predictions', type=Path, nargs='*', default=[], help='COCO results')
    asked = commands.add_parser('ask', help='write the answers of a model to a dataset')
    asked.add_argument('--weights', required=True, help='published folder, checkpoint or name')
    asked.add_argument('--words', type=lambda text: [w.strip() for w in text.split(',')])
    asked.add_argument('--text', help='a sentence')
    asked.add_argument('--task', help='default: chosen by the question')
    asked.add_argument('--field', default='mvp')
    asked.add_argument('--threshold', type=float)
    asked.add_argument('--thinking', action=argparse.BooleanOptionalAction)
    written = commands.add_parser('export', help='write labels for training')
    written.add_argument('--field', required=True)
    written.add_argument('--out', type=Path, required=True)
    for command in (made, asked, written):
        command.add_argument('dataset', help='name of the dataset in FiftyOne')
    return parser.parse_args()


def main() -> None:
    """Run a command."""
    args = parse_args()
    try:
        import fiftyone as fo
        if args.command == 'load':
            dataset = load(args.dataset, args.images, args.labels, args.predictions, fo)
        else:
            dataset = fo.load_dataset(args.dataset)
        if args.command == 'ask':
            ask(dataset, MVP(args.weights), args.field, fo, words=args.words, text=args.text,
                task=args.task, threshold=args.threshold, thinking=args.thinking)
        elif args.command == 'export':
            export(dataset, args.field, args.out, fo)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.dataset}: {len(dataset)} images (fiftyone app launch {args.dataset})')


if __name__ == '__main__':
    main()
