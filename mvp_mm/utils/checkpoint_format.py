# Copyright (c) mvp_mm authors. All rights reserved.
"""Tell from a file's bytes what it is, and why it cannot be weights."""
from __future__ import annotations

import zipfile
from pathlib import Path

_LEGACY_MAGIC = b'l\xfc\x9cF\xf9 j\xa8P\x19'
_HTML = (b'<!doctype html', b'<html', b'<?xml', b'<head')
# First bytes of formats that people take for weights, or get in their place.
_OTHER = {
    b'\x89PNG': 'a PNG image', b'\xff\xd8\xff': 'a JPEG image', b'GIF8': 'a GIF image',
    b'%PDF': 'a PDF document', b'GGUF': 'a GGUF file (llama.cpp)',
    b'\x89HDF': 'an HDF5 file (Keras)', b'\x93NUMPY': 'a NumPy array',
    b'\x1f\x8b': 'a gzip archive: unpack it', b'BZh': 'a bzip2 archive: unpack it',
    b'\xfd7zXZ': 'an xz archive: unpack it', b'\x28\xb5\x2f\xfd': 'a zstd archive: unpack it',
    b'7z\xbc\xaf': 'a 7z archive: unpack it', b'\x7fELF': 'a program',
}
_CHUNK = 1 << 24


class CheckpointError(ValueError):
    """A file that cannot be taken as weights; one line with the file and the true cause."""


def format_of(path: str | Path) -> str:
    """Find out the format of a file of weights; nothing in the file is run.

    Args:
        path: The file.

    Returns:
        ``zip`` (torch), ``legacy`` (torch before 1.6), ``pickle`` (a plain one, such as
        detectron2's) or ``safetensors``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is none of these, or not whole.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder, not a file of weights')
    if not path.is_file():
        raise FileNotFoundError(f'No such weights file: {path}')
    with open(path, 'rb') as file:
        head = file.read(1024)
    if head[:4] == b'PK\x03\x04':
        check_zip(path)
        return 'zip'
    reason = _other_format(path, head)
    if reason is not None:
        raise CheckpointError(f'{path} {reason}')
    if head[8:9] == b'{':
        if int.from_bytes(head[:8], 'little') + 8 > path.stat().st_size:
            raise CheckpointError(f'{path} is cut off: its header is not whole')
        return 'safetensors'
    if head[:1] == b'\x80':
        return 'legacy' if _LEGACY_MAGIC in head[:32] else 'pickle'
    raise CheckpointError(f'{path} {_unknown(head)}')


def _other_format(path: Path, head: bytes) -> str | None:
    """Name a format that is none of weights; None where nothing speaks against it."""
    if not head:
        return 'is empty (0 bytes)'
    if not head.strip(b'\0') and _zeros(path):
        return 'holds nothing but zeros: it was never written, or its disk has lost it'
    if head.startswith(b'version https://git-lfs'):
        return 'is a git-lfs pointer, not the weights themselves: fetch them with git lfs pull'
    if head.lstrip(b'\xef\xbb\xbf \t\r\n').lower().startswith(_HTML):
        return 'is an HTML page, not weights: the download gave a web page'
    if head[257:262] == b'ustar':
        return 'is a tar archive, not a file of weights (torch wrote such ones before 2017)'
    return next((f'is {title}, not weights' for start, title in _OTHER.items()
                 if head.startswith(start)), None)


def _zeros(path: Path) -> bool:
    with open(path, 'rb') as file:
        return not any(any(chunk) for chunk in iter(lambda: file.read(_CHUNK), b''))


def _unknown(head: bytes) -> str:
    try:
        text = head.decode('utf-8', errors='strict')
    except UnicodeDecodeError:
        return 'is in no format of weights that is known (torch, safetensors, pickle of arrays)'
    if text.isprintable() or any(c in text for c in '\n\r\t'):
        return 'is a text file, not weights'
    return 'is in no format of weights that is known (torch, safetensors, pickle of arrays)'


def check_zip(path: str | Path) -> None:
    """Look at the directory of a zip archive: whole, and torch's.

    Raises:
        CheckpointError: If it is cut off, damaged, or a program instead of weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f'{path} is cut off or damaged: as a zip archive it cannot be '
                              f'opened ({error})') from error
    bare = {name.split('/', 1)[-1] for name in names}
    if any('serialized_exported_program' in name or name.endswith('archive_format')
           or '/models/' in f'/{name}' for name in names):
        raise CheckpointError(f'{path} is an exported program (torch.export, .pt2), not weights: '
                              'such files can run code when they are opened')
    if 'constants.pkl' in bare or any(name.startswith('code/') for name in bare):
        raise CheckpointError(f'{path} is a TorchScript program, not weights: save the '
                              'state_dict() of the model')
    if 'data.pkl' not in bare:
        what = 'NumPy arrays (.npz)' if any(n.endswith('.npy') for n in names) else 'other files'
        raise CheckpointError(f'{path} is a zip archive of {what}, not one of torch')


def check_sums(path: str | Path) -> bool:
    """Compare every record of a zip archive with its checksum.

    torch does not look at them when it reads. Files written with
    ``torch.serialization.set_crc32_options(False)`` have none.

    Args:
        path: A zip archive of torch.

    Returns:
        Whether all records are stored as they are, so that they can be mapped into memory.

    Raises:
        CheckpointError: Naming the first record that is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            twice = {r.filename for r in records if archive.getinfo(r.filename) is not r}
            if twice:
                raise CheckpointError(f'{path} is damaged: it holds {sorted(twice)[0]} twice')
            if any(record.CRC for record in records):
                for record in records:
                    _read_through(archive, record)
            return all(record.compress_type == zipfile.ZIP_STORED for record in records)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises whatever the broken bytes provoke
        raise CheckpointError(f'{path} is damaged: {error}') from error


def _read_through(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    """Read a record to its end, where zipfile compares the checksum."""
    with archive.open(record) as file:
        while file.read(_CHUNK):
            pass
