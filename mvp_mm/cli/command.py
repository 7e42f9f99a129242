# Copyright (c) mvp_mm authors. All rights reserved.
"""What all commands share: errors in one line, exit codes, options of several values."""
from __future__ import annotations

import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

# Exit codes; docs/get_started/command_line.md has them all, those of the engine included.
FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
_DEBUG = 'mvp_mm.cli.debug'


class Failure(click.ClickException):
    """Ends a command with a message.

    Args:
        message: What is wrong, naming file and record.
        status: The exit code.
    """

    def __init__(self, message: str, status: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = status
        self.ctx: click.Context | None = None


@contextmanager
def reported(*kinds: type[Exception], status: int = BAD_INPUT) -> Iterator[None]:
    """Turn errors of some kinds, which a user can mend, into the message that ends the command.

    Args:
        kinds: Classes of exceptions. Any other exception keeps its traceback: it is our fault.
        status: The exit code.
    """
    try:
        yield
    except kinds as error:
        raise Failure(str(error) or type(error).__name__, status) from error


class ManyValues(click.Option):
    """An option that takes all pairs ``KEY=VALUE`` that follow it, as argparse's ``nargs='+'``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, multiple=True, **kwargs)


class Command(click.Command):
    """A command with ``--debug`` and options of several values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(
            ['--debug'], is_flag=True, expose_value=False, callback=_keep_debug,
            help='Show the traceback of an error.'))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments after spreading options of several values."""
        names = {name for param in self.params if isinstance(param, ManyValues)
                 for name in param.opts}
        return super().parse_args(ctx, list(_spread(args, names)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure knows by which name it was called."""
        try:
            return super().invoke(ctx)
        except Failure as failure:
            failure.ctx = ctx
            if ctx.meta.get(_DEBUG):
                traceback.print_exception(failure.__cause__ or failure)
            raise


def _keep_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = value


def _spread(args: Sequence[str], names: Collection[str]) -> Iterator[str]:
    """Write ``--option a=1 b=2`` as ``--option a=1 --option b=2``."""
    option, empty = '', False
    for arg in args:
        if option and not arg.startswith('-') and (empty or '=' in arg):
            yield from (option, arg)
            empty = False
            continue
        if empty:
            yield option
        option = arg if arg in names else ''
        empty = bool(option)
        if not option:
            yield arg
    if empty:
        yield option


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command and print its error, if any, in one line.

    Args:
        command: A command or a group of commands.
        name: What it is called in messages.
        arguments: Default: those of the process.

    Returns:
        The exit code.
    """
    try:
        status = command.main(None if arguments is None else list(arguments), prog_name=name,
                              standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, 'ctx', None)
        place = context.command_path if context else name
        message = error.format_message()
        if isinstance(error, click.UsageError):
            message = f'{" ".join(message.split())} ({place} --help tells more)'
        click.echo(f'{place}: error: {message}', err=True)
        return error.exit_code
    except click.Abort as abort:
        if not isinstance(abort.__cause__, KeyboardInterrupt):
            raise (abort.__cause__ or abort) from None    # click takes an EOFError for Ctrl-D
        click.echo(f'{name}: interrupted', err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def run_script(command: click.Command, name: str) -> None:
    """Run a command as a script of its own; end the process where the exit code is not 0."""
    status = run(command, name)
    if status:
        sys.exit(status)
