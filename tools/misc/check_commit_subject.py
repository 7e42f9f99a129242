# Copyright (c) mvp_mm authors. All rights reserved.
"""Check the subject of a commit message: ``[area] verb …``, at most 72 characters.

Example::

    python tools/misc/check_commit_subject.py .git/COMMIT_EDITMSG
"""
from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

LONGEST = 72


def fault_of(subject: str) -> str | None:
    """Say what is wrong with a subject, or None; merges, reverts and fixups are git's own."""
    if re.match(r'(Merge|Revert|fixup!|squash!) ', subject):
        return None
    if len(subject) > LONGEST:
        return f'the subject has {len(subject)} characters, at most {LONGEST} are allowed'
    if not re.match(r'\[[a-z_-]+\] \S', subject):
        return "the subject must begin with its area, as in '[data] refuse …'"
    return None


def main(argv: list[str] | None = None) -> None:
    """Exit with the fault of the message's first line, if it has one."""
    parser = argparse.ArgumentParser(description='Check the subject of a commit message')
    parser.add_argument('message', type=Path, help='file with the commit message')
    lines = parser.parse_args(argv).message.read_text(encoding='utf-8').splitlines()
    subject = lines[0] if lines else ''
    fault = fault_of(subject)
    if fault:
        sys.exit(f'commit message: {fault}: {subject!r}')


if __name__ == '__main__':
    main()
