# Copyright (c) mvp_mm authors. All rights reserved.
"""Starts the page and the server."""
from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvp_mm.serving.limits import Limits
from mvp_mm.utils.named_weights import find_weights
from mvp_mm.utils.terminal import say_busy

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

logger = logging.getLogger('mvp_mm.serving')


def launch(source: Any, host: str = '127.0.0.1', port: int = 7860, device: Any = None, *,
           config: Any = None, dtype: Any = None, acceleration: Any = None, page: bool = True,
           examples: str | Path | None = None, hosts: tuple[str, ...] = (),
           trusted_proxies: tuple[str, ...] = (), root_path: str = '', **limits: Any) -> None:
    """Serve a model: a page at ``/`` and ``POST /predict``; returns after a shutdown.

    SIGINT and SIGTERM shut it down: requests that were taken are answered first.

    Args:
        source: What ``MVP`` takes (published folder, checkpoint, name), or an ``MVP``.
        host: Address to listen on. The default is reached from this computer alone.
        port: Port to listen on; 0 for any free one.
        device: Device of the model; None for CUDA where there is one.
        config: Config of a checkpoint that stores none.
        dtype: Type of the weights, as ``MVP`` takes it.
        acceleration: As ``MVP`` takes it.
        page: Whether there is a page; without it Gradio is not needed.
        examples: Folder of examples (:func:`~mvp_mm.serving.examples.read_examples`); None draws
            some.
        hosts: Further names by which requests may address the server. On a loopback address
            others are refused, elsewhere only if any are given.
        trusted_proxies: Addresses of proxies whose ``X-Forwarded-For`` is believed.
        root_path: Path under which a proxy shows the server, such as ``/mvp``.
        **limits: Fields of :class:`~mvp_mm.serving.limits.Limits`.

    Raises:
        ImportError: If the optional packages are missing; says what to install.
        ValueError: If an argument is wrong.
        OSError: If the port is taken.
    """
    wanted = Limits.of(**limits)
    listening = _listen(host, port)
    with listening, tempfile.TemporaryDirectory(prefix='mvp_mm_serving_') as temporary:
        if isinstance(source, (str, os.PathLike)):
            find_weights(source)  # a wrong name is told before anything large is imported
        say_busy('loading the server')
        _check_packages(page)
        folder = Path(temporary).resolve()
        say_busy('loading PyTorch and the model')
        offered = _examples(examples, folder) if page else []
        model = load(source, device, config, dtype, acceleration)
        _warm_up(model)
        from mvp_mm.serving.app import build_app
        app = build_app(model, wanted, folder=folder if page else None, examples=offered,
                        hosts=allowed_hosts(host, hosts))
        server = make_server(app, wanted, trusted_proxies, root_path)
        _announce(host, listening.getsockname()[1], page)
        server.run(sockets=[listening])


def load(source: Any, device: Any = None, config: Any = None, dtype: Any = None,
         acceleration: Any = None) -> Any:
    """Load an ``MVP``, unless the source is one already."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    from mvp_mm import MVP
    return MVP(source, device=device, config=config, dtype=dtype, acceleration=acceleration)


def _warm_up(model: Any) -> None:
    """Ask a first question: what is missing is said now, and no client waits for it."""
    from PIL import Image

    picture = model.open(Image.new('RGB', (64, 64), (128, 128, 128)))
    try:
        picture.ask(words=['object'])
    except ValueError:
        # A model of sentences alone.
        picture.ask(text='the object')


def make_server(app: FastAPI, limits: Limits, trusted_proxies: tuple[str, ...] = (),
                root_path: str = '') -> uvicorn.Server:
    """Make the HTTP server of an application; ``run(sockets=[...])`` blocks."""
    import uvicorn

    service, page = app.state.service, getattr(app.state, 'page', None)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            # Not as inherited: it ends the process by the signal, and the files would stay.
            service.draining = True
            if page is not None:
                # Open pages hold a connection each, for which a shutdown would wait.
                page.stop_event.set()
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    return Server(uvicorn.Config(
        app, log_level='warning', server_header=False, ws='none', root_path=root_path,
        proxy_headers=bool(trusted_proxies), forwarded_allow_ips=list(trusted_proxies),
        timeout_keep_alive=15, h11_max_incomplete_event_size=64 * 1024,
        timeout_graceful_shutdown=int(limits.drain_seconds)))


def allowed_hosts(host: str, more: tuple[str, ...]) -> frozenset[str] | None:
    """Names that a Host header may have; None for any."""
    if _is_loopback(host):
        return frozenset({'127.0.0.1', 'localhost', '::1', host.lower(),
                          *(name.lower() for name in more)})
    return frozenset({host.lower(), *(name.lower() for name in more)}) if more else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def _check_packages(page: bool) -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
        if page:
            import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(f"serving needs the package {error.name}: pip install 'mvp_mm[serve]'"
                          ) from error


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded."""
    if not isinstance(port, int) or not 0 <= port < 65536:
        raise ValueError(f'port must be a number from 0 to 65535, got {port!r}')
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(f'host {host!r} is not an address of this computer') from error
    try:
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(f'cannot listen on {host}:{port}: {reason}') from error


def _examples(source: str | Path | None, folder: Path) -> list[Any]:
    from mvp_mm.serving.examples import copy_examples, draw_examples, read_examples

    own = folder / 'examples'
    own.mkdir()
    return draw_examples(own) if source is None else copy_examples(read_examples(Path(source)), own)


def _announce(host: str, port: int, page: bool) -> None:
    shown = f'[{host}]' if ':' in host else host
    print(f'mvp_mm serves on http://{shown}:{port}' + ('' if page else '/predict (no page)'),
          flush=True)
    if not _is_loopback(host):
        print('mvp_mm: warning: everyone who reaches this address may ask; there is no login',
              file=sys.stderr, flush=True)
