# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads the Markdown pages of the project: their code blocks, commands and links."""
from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

PAGES = sorted([
    *ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'projects').rglob('*.md')])
_BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_SCRIPT = re.compile(r'^(?:\./)?((?:tools|demo)/[\w/.-]+\.(?:py|sh))$')


class Command(NamedTuple):
    """A command that a page names: ``mvp-mm`` or a script of this repository, and what follows."""

    script: str
    arguments: list[str]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """The contents of a page's fenced blocks of a language."""
    return [body for found, body in _BLOCK.findall(text) if found == language]


def commands(text: str) -> list[Command]:
    """The commands on scripts of this repository, in bash blocks and in inline code."""
    lines = [line for block in blocks(text, 'bash')
             for line in block.replace('\\\n', ' ').splitlines()]
    lines += re.findall(r'`([^`\n]+)`', _BLOCK.sub('', text))
    found = []
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:    # inline code with a lone quotation mark
            continue
        found += _scripts_of(words)
    return found


def _scripts_of(words: list[str]) -> list[Command]:
    found: list[Command] = []
    for word in words:
        if word == 'mvp-mm' and not found:
            found.append(Command(word, []))
            continue
        script = _SCRIPT.match(word)
        module = re.match(r'^mvp_mm(\.\w+)+$', word)
        if script and not found:
            found.append(Command(script[1], []))
        elif module and '-m' in words and not found:
            source = word.replace('.', '/')
            package = (ROOT / source).is_dir()
            found.append(Command(source + ('/__main__.py' if package else '.py'), []))
        elif found:
            found[-1].arguments.append(word)
    return found


def links(text: str) -> list[str]:
    """Targets of the links to files, without those to the web and within the page."""
    targets = re.findall(r'\]\(([^)\s]+)\)', _BLOCK.sub('', text))
    return [t.split('#')[0] for t in targets if not t.startswith(('http', '#', 'mailto'))]
