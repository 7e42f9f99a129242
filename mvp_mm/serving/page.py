# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds the page on which people ask the model (Gradio)."""
from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

# Before gradio is imported: it reports its use to its makers unless told not to.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'

import gradio as gr  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from mvp_mm.serving.answers import to_response  # noqa: E402
from mvp_mm.serving.errors import ServingError  # noqa: E402
from mvp_mm.serving.examples import Example  # noqa: E402
from mvp_mm.serving.overlay import STYLE, draw_overlay  # noqa: E402
from mvp_mm.serving.schema import PredictResponse, Question  # noqa: E402
from mvp_mm.serving.service import Answered, Service  # noqa: E402

logger = logging.getLogger('mvp_mm.serving')

TASKS = ('panoptic', 'semantic', 'instance', 'detection', 'grounding', 'referring_segmentation',
         'referring_comprehension', 'generalized_referring', 'caption')
_AUTOMATIC = 'by the question'
_THINKING = {'as configured': None, 'on': True, 'off': False}


def mount_page(app: FastAPI, service: Service, folder: Path, examples: Sequence[Example]) -> None:
    """Mount the page at ``/``.

    Args:
        app: The application; its own routes go first.
        service: Answers the questions.
        folder: Folder for uploads and downloads, and nothing else.
        examples: What the page offers to try.
    """
    # Read by gradio whenever it makes a file.
    os.environ['GRADIO_TEMP_DIR'] = str(folder)
    limits = service.limits
    blocks = _build(service, folder, examples)
    blocks.queue(api_open=False, default_concurrency_limit=limits.max_queue,
                 max_size=limits.max_queue)
    # Without these two, set by its own launch, gradio checks no path and shows SVGs as its own.
    blocks.has_launched = blocks.is_running = True
    font = ['system-ui', 'sans-serif']
    theme = gr.themes.Default(font=font, font_mono=['ui-monospace', 'monospace'])
    gr.mount_gradio_app(
        app, blocks, path='/', footer_links=[], run_history=False, show_error=False,
        max_file_size=limits.max_request_bytes, ssr_mode=False, enable_monitoring=False,
        mcp_server=False, pwa=False, theme=theme, css=STYLE)
    app.state.page = app.routes[-1].app
    _sweep_while_running(app, folder, limits.temporary_seconds)


def _sweep_while_running(app: FastAPI, folder: Path, age: float) -> None:
    """Delete what gradio forgets of its files; what is there now stays."""
    kept = set(folder.rglob('*'))
    inner = app.router.lifespan_context

    def sweep() -> None:
        for file in folder.rglob('*'):
            with contextlib.suppress(OSError):
                if file not in kept and file.stat().st_mtime < time.time() - age - 60:
                    file.rmdir() if file.is_dir() else file.unlink()

    async def sweep_often() -> None:
        while True:
            await asyncio.sleep(60)
            await asyncio.to_thread(sweep)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        task = asyncio.create_task(sweep_often())
        try:
            async with inner(app) as state:
                yield state
        finally:
            task.cancel()

    app.router.lifespan_context = lifespan


def _build(service: Service, folder: Path, examples: Sequence[Example]) -> gr.Blocks:
    limits = service.limits
    with gr.Blocks(title='mvp_mm', analytics_enabled=False, fill_width=True,
                   delete_cache=(60, limits.temporary_seconds)) as blocks:
        gr.Markdown('# Ask a picture\nBoxes and masks from a list of words or from one sentence.')
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    label='Picture', type='filepath', image_mode=None, elem_id='picture',
                    sources=['upload', 'clipboard'], height=320, buttons=['fullscreen'])
                # Not a subclass, for which gradio writes a file beside this one.
                picture.preprocess = _upload
                words = gr.Textbox(label='Words, separated by commas', elem_id='words',
                                   placeholder='cat, sofa, floor')
                text = gr.Textbox(label='or one sentence', elem_id='text',
                                  placeholder='the cat on the left of the sofa')
                with gr.Accordion('Options', open=False):
                    stuff = gr.Textbox(label='Which of the words are stuff (floor, sky)',
                                       elem_id='stuff')
                    task = gr.Dropdown(
                        [_AUTOMATIC, *getattr(service.model, 'tasks', TASKS)], label='Task',
                        value=_AUTOMATIC, elem_id='task')
                    thinking = gr.Radio(list(_THINKING), value='as configured', elem_id='thinking',
                                        label='Thinking: write a caption before perceiving (slow)')
                    own_threshold = gr.Checkbox(label='Set the least score', elem_id='own')
                    threshold = gr.Slider(0, 1, value=0.3, step=0.01, label='Least score',
                                          elem_id='threshold')
                ask = gr.Button('Ask', variant='primary', elem_id='ask')
            with gr.Column(scale=3, min_width=400):
                answer = gr.HTML('The answer appears here.', elem_id='answer',
                                 apply_default_css=False)
                caption = gr.Textbox(label='Caption', elem_id='caption', interactive=False, lines=2)
                facts = gr.Markdown(elem_id='facts')
                with gr.Row():
                    png = gr.DownloadButton('PNG', elem_id='png', interactive=False)
                    record = gr.DownloadButton('JSON', elem_id='json', interactive=False)
        inputs = [picture, words, text, stuff, task, thinking, own_threshold, threshold]
        outputs = [answer, caption, facts, png, record]
        if examples:
            gr.Examples([[str(e.path), e.words, e.text] for e in examples],
                        [picture, words, text], cache_examples=False)
        gr.on([ask.click, words.submit, text.submit], _Asking(service, folder).ask, inputs, outputs,
              api_name='ask', show_progress_on=answer)
    return blocks


def _upload(payload: Any) -> str | None:
    """Hand on the path of an upload, unread: gradio's own look ends in a traceback for no image.

    The service looks at the file, and says in one line what is wrong.
    """
    return None if payload is None else payload.path


class _Asking:
    """What the page's button does."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder

    async def ask(self, picture: str | None, words: str | None, text: str | None,
                  stuff: str | None, task: str, thinking: str, own_threshold: bool,
                  threshold: float) -> tuple[Any, ...]:
        """Answer; faults of the user become a notice on the page."""
        started, ident, metrics = time.monotonic(), uuid.uuid4().hex, self.service.metrics
        try:
            question = _question(words, text, stuff, task, thinking,
                                 threshold if own_threshold else None)
            if not picture:
                raise ServingError(422, 'choose a picture first', 'question')
            with self.service.admit():
                data = await asyncio.to_thread(Path(picture).read_bytes)
                answered = await self.service.answer(data, question)
                shown = await asyncio.to_thread(self._show, answered, question, ident, started)
        except ServingError as error:
            metrics.requests.labels('page', error.status).inc()
            metrics.refusals.labels(error.reason).inc()
            later = '' if error.retry_after is None else f'; try again in {error.retry_after} s'
            raise gr.Error(f'{error.detail}{later}', print_exception=False) from error
        except Exception as error:
            logger.exception('question %s of the page failed', ident)
            metrics.requests.labels('page', 500).inc()
            metrics.refusals.labels('failure').inc()
            raise gr.Error('The server failed; its log says why.', print_exception=False) from error
        metrics.requests.labels('page', 200).inc()
        metrics.seconds.labels('page').observe(time.monotonic() - started)
        return shown

    def _show(self, answered: Answered, question: Question, ident: str,
              started: float) -> tuple[Any, ...]:
        response = to_response(answered, ident, time.monotonic() - started)
        drawing = time.monotonic()
        html = draw_overlay(response, answered.image, question.words or ())
        target = Path(tempfile.mkdtemp(dir=self.folder))
        png, record = target / 'answer.png', target / 'answer.json'
        answered.answer.plot().save(png, compress_level=1)
        record.write_text(response.model_dump_json(indent=1), encoding='utf-8')
        facts = _facts(response, time.monotonic() - drawing)
        return (html, response.caption or '', facts, gr.update(value=str(png), interactive=True),
                gr.update(value=str(record), interactive=True))


def _facts(response: PredictResponse, drawing: float) -> str:
    seconds, reason = response.seconds, response.reason
    count = len(response.objects)
    what = 'region' if count and response.objects[0].segment_id is not None else 'object'
    plural = '' if count == 1 else 's'
    height, width = response.image_size
    return (f'**{count} {what}{plural}** in {width} x {height} pixels, task `{response.task}`'
            f'{f" ({reason})" if reason else ""}. '
            f'{seconds.total + drawing:.2f} s: decoding {seconds.decode:.2f}, '
            f'waiting {seconds.queue:.2f}, model {seconds.model:.2f} (batch of '
            f'{response.batch_size}), drawing {drawing:.2f}.')


def _question(words: str | None, text: str | None, stuff: str | None, task: str, thinking: str,
              threshold: float | None) -> Question:
    """The question that the fields make."""
    named = _split(words)
    fields = dict(words=named or None, text=' '.join((text or '').split()) or None,
                  stuff=_split(stuff) or None, task=None if task == _AUTOMATIC else task,
                  thinking=_THINKING.get(thinking), threshold=threshold)
    try:
        return Question.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        place = f'{fault["loc"][0]}: ' if fault['loc'] else ''
        raise ServingError(422, place + fault['msg'].removeprefix('Value error, '),
                           'question') from error


def _split(names: str | None) -> list[str]:
    # A field that was never written in comes as None.
    return [name for part in (names or '').split(',') if (name := ' '.join(part.split()))]
