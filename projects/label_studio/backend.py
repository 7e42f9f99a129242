# Copyright (c) mvp_mm authors. All rights reserved.
"""Serve a model to Label Studio as an ML backend that labels images in advance.

Example::

    python projects/label_studio/backend.py MODEL --port 9090
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import uvicorn
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from fastapi import Body, FastAPI, HTTPException

from mvp_mm import MVP
from mvp_mm.apis import Answer

KINDS = ('RectangleLabels', 'PolygonLabels', 'BrushLabels')
PROMPT = 'prompt'
_POLYGON_TOLERANCE = 1.0    # pixels
_HEALTHY = dict(status='UP', model_class='MVP')

# From an image's address in Label Studio, its task's id and a folder for files to its path.
Loader = Callable[[str, Any, str], str]


@dataclass(frozen=True)
class Control:
    """A tag of the labelling interface that takes regions.

    Attributes:
        kind: One of ``KINDS``.
        name: Its name, a region's ``from_name``.
        image: Name of the image tag that it labels.
        labels: The label that stands for each word: ``value`` of a ``Label``, and each of its
            ``predicted_values``.
    """

    kind: str
    name: str
    image: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Interface:
    """What a backend needs to know of a labelling interface.

    Attributes:
        controls: The tags that take regions.
        keys: Under which key of a task's data each image tag finds its image.
    """

    controls: list[Control]
    keys: Mapping[str, str]


def read_interface(label_config: Any) -> Interface:
    """Read the XML of a labelling interface.

    Raises:
        ValueError: If it is no XML, or has no control that the model can fill.
    """
    try:
        root = ElementTree.fromstring(label_config)
    except (ElementTree.ParseError, DefusedXmlException, TypeError, ValueError) as error:
        raise ValueError(f'label_config is not valid XML: {error}') from error
    keys = {tag.get('name', ''): tag.get('value', '').removeprefix('$')
            for tag in root.iter('Image')}
    controls = [Control(kind, tag.get('name', ''), tag.get('toName', ''), _labels(tag))
                for kind in KINDS for tag in root.iter(kind)]
    controls = [control for control in controls if control.image in keys and control.labels]
    if not controls:
        raise ValueError(f'label_config has no {", ".join(KINDS)} with labels for an Image')
    return Interface(controls, keys)


def _labels(tag: Any) -> dict[str, str]:
    pairs = [(word.strip(), label.get('value', '').strip()) for label in tag.iter('Label')
             for word in label.get('predicted_values', label.get('value', '')).split(',')]
    # A word that stands twice has the first label.
    return {word: dict(reversed(pairs))[word] for word, value in pairs if word and value}


def sentence_in(params: Any) -> str | None:
    """Find what stands in the text area ``prompt`` when somebody asks for help with a task."""
    context = params.get('context') if isinstance(params, dict) else None
    for region in (context or {}).get('result', ()):
        if region.get('from_name') == PROMPT:
            text = region.get('value', {}).get('text', '')
            return ' '.join(text if isinstance(text, list) else [text]).strip() or None
    return None


def regions_of(answer: Answer, control: Control, sentence: str | None = None) -> Iterator[dict]:
    """Give an answer's objects as regions of a control.

    Args:
        answer: About one image.
        control: Takes those objects whose word has a label of it.
        sentence: If the answer is about one, all objects take the control's first label.

    Raises:
        ValueError: If the control takes masks and the answer has boxes only.
    """
    if control.kind != 'RectangleLabels' and answer.compact_masks is None:
        raise ValueError(f'{control.kind} takes masks, task {answer.task} gives boxes')
    height, width = answer.image_size
    kind, first = control.kind.lower(), next(iter(control.labels.values()))
    for index, word in enumerate(answer.labels):
        label = control.labels.get(word) if sentence is None else first
        if label is None:
            continue
        for shape in _shapes(answer, index, control.kind):
            yield dict(
                id=uuid.uuid4().hex[:10], from_name=control.name, to_name=control.image, type=kind,
                original_width=width, original_height=height, image_rotation=0,
                score=float(answer.scores[index]), value={**shape, kind: [label]})


def _shapes(answer: Answer, index: int, kind: str) -> Iterator[dict[str, Any]]:
    """The geometry of an object; lengths are percentages of the image's sides."""
    height, width = answer.image_size
    scale = np.array([100 / width, 100 / height])
    if kind == 'RectangleLabels':
        (x1, y1), (x2, y2) = answer.boxes[index].astype(float).reshape(2, 2) * scale
        yield dict(x=x1, y=y1, width=x2 - x1, height=y2 - y1, rotation=0)
        return
    mask = answer.mask(index).astype(np.uint8)
    if kind == 'BrushLabels':
        if mask.any():
            from label_studio_sdk.converter import brush
            yield dict(format='rle', rle=brush.mask2rle(mask * 255))
        return
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        points = cv2.approxPolyDP(outline, _POLYGON_TOLERANCE, True)[:, 0]
        if len(points) >= 3:
            yield dict(points=(points * scale).tolist(), closed=True)


def predict(model: Any, request: Mapping[str, Any], load: Loader, version: str,
            **question: Any) -> dict[str, Any]:
    """Label the tasks of a request.

    Args:
        model: An ``MVP``.
        request: Body of Label Studio's ``POST /predict``.
        load: Gives an image's path.
        version: Of the model, for Label Studio's list of predictions.
        **question: Options of the question, such as ``threshold``.

    Returns:
        ``results``, one prediction per task, and ``model_version``.

    Raises:
        ValueError: If the request or an image is wrong; names the task.
    """
    interface = read_interface(request.get('label_config'))
    sentence = sentence_in(request.get('params'))
    results = []
    for task in request.get('tasks') or ():
        regions: list[dict] = []
        try:
            for image in {control.image: None for control in interface.controls}:
                controls = [c for c in interface.controls if c.image == image]
                words = list(dict.fromkeys(word for c in controls for word in c.labels))
                asked = dict(words=words) if sentence is None else dict(text=sentence)
                with tempfile.TemporaryDirectory() as folder:
                    path = load(task['data'][interface.keys[image]], task.get('id'), folder)
                    answer = model(path, progress=False, **asked, **question)
                    for control in controls:
                        regions += regions_of(answer, control, sentence)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'task {task.get("id")}: {type(error).__name__}: {error}') from error
        score = float(np.mean([region['score'] for region in regions])) if regions else 0.
        results.append(dict(result=regions, score=score, model_version=version))
    return dict(results=results, model_version=version)


def load_from_label_studio(address: str, task: Any, folder: str) -> str:
    """Fetch an image from Label Studio (``LABEL_STUDIO_URL``, ``LABEL_STUDIO_API_KEY``).

    Raises:
        ValueError: If it lies on another server: a backend fetches nothing for strangers.
    """
    from label_studio_sdk._extensions.label_studio_tools.core.utils.io import get_local_path
    server = urlsplit(os.environ.get('LABEL_STUDIO_URL', '')).netloc
    parts = urlsplit(address)
    if parts.scheme in ('http', 'https') and parts.netloc != server:
        raise ValueError(f'{address} is not on LABEL_STUDIO_URL ({server or "not set"})')
    return get_local_path(address, cache_dir=folder, task_id=task)


def build_app(model: Any, load: Loader, version: str, **question: Any) -> FastAPI:
    """Build the web application: the routes that Label Studio calls."""
    app = FastAPI(title='mvp_mm for Label Studio', docs_url=None, redoc_url=None)
    one_at_a_time = threading.Lock()

    @app.post('/predict')
    def answer(request: dict = Body(...)) -> dict:  # noqa: B008  FastAPI's form
        with one_at_a_time:
            try:
                return predict(model, request, load, version, **question)
            except ValueError as error:
                raise HTTPException(422, str(error)) from error

    for path in ('/', '/health'):
        app.add_api_route(path, lambda: _HEALTHY, methods=['GET'])
    app.add_api_route('/setup', lambda: dict(model_version=version), methods=['POST'])
    app.add_api_route('/versions', lambda: dict(versions=[version]), methods=['GET', 'POST'])
    # Nothing is learned from annotations as they are made.
    app.add_api_route('/webhook', lambda: {}, methods=['POST'])
    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='published folder, checkpoint or name of the model zoo')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    parser.add_argument('--threshold', type=float, help='least score of an object')
    parser.add_argument('--thinking', action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=9090)
    args = parser.parse_args()
    try:
        model = MVP(args.model, args.device)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    app = build_app(model, load_from_label_studio, os.path.basename(os.path.normpath(args.model)),
                    threshold=args.threshold, thinking=args.thinking)
    uvicorn.run(app, host=args.host, port=args.port)


if __name__ == '__main__':
    main()
