# Copyright (c) mvp_mm authors. All rights reserved.
"""Files that are taken for checkpoints: sound ones, damaged ones, ones that carry code."""
from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save as save_safetensors

from tests.test_engine.toys import ToyModel

CONFIG = "model = dict(type='ToyModel')\ninferencer = dict(pipeline=[], tasks=dict())\n"


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.mark}'", )


def sound(**changes: Any) -> dict[str, Any]:
    """What mmengine's runner stores of a toy, with some entries changed; None leaves one out."""
    torch.manual_seed(0)
    state = ToyModel().state_dict()
    moments = {i: dict(momentum_buffer=torch.ones_like(value))
               for i, value in enumerate(state.values())}
    content = dict(
        meta=dict(iter=2, epoch=0, cfg=CONFIG, seed=0, note=np.float64(0.5)),
        state_dict=state,
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1])), runtime_info={},
                         resumed_keys={}),
        optimizer=dict(state=moments, param_groups=[dict(
            lr=0.01, momentum=0.9, dampening=0, weight_decay=0, nesterov=False, maximize=False,
            foreach=None, differentiable=False, fused=None, params=[0, 1, 2, 3])]))
    content.update(changes)
    return {key: value for key, value in content.items() if value is not None}


def saved(content: Any, **options: Any) -> bytes:
    """The bytes of ``torch.save``."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _state(**changes: Any) -> dict[str, Any]:
    return dict(sound()['state_dict'], **changes)


def _meta(**changes: Any) -> dict[str, Any]:
    return dict(sound()['meta'], **changes)


def flipped(record: str, place: int) -> bytes:
    """A sound file with one bit turned inside one of its records."""
    raw = bytearray(saved(sound()))
    info = next(i for i in zipfile.ZipFile(io.BytesIO(raw)).infolist()
                if i.filename.endswith(record))
    name, extra = struct.unpack('<HH', raw[info.header_offset + 26:info.header_offset + 30])
    raw[info.header_offset + 30 + name + extra + place] ^= 0x40
    return bytes(raw)


def _flipped_directory() -> bytes:
    raw = bytearray(saved(sound()))
    raw[raw.index(b'PK\x01\x02') + 16] ^= 0x40  # the checksum of the first record
    return bytes(raw)


NAN = torch.full((1, 2), float('nan'))
# Contents of files that every door refuses, and a word of the cause that it names.
DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    'cut in half': (lambda: saved(sound())[:len(saved(sound())) // 2], 'cut off'),
    'cut by a byte': (lambda: saved(sound())[:-1], 'cut off'),
    'cut to 20 bytes': (lambda: saved(sound())[:20], 'cut off'),
    'empty': (lambda: b'', 'is empty'),
    'zeros': (lambda: bytes(4096), 'zeros'),
    'text': (lambda: b'epoch 3, loss 0.1\n', 'text file'),
    'html': (lambda: b'<!DOCTYPE html><html></html>', 'HTML page'),
    'git-lfs': (lambda: b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n',
                'git-lfs pointer'),
    'png': (lambda: b'\x89PNG\r\n\x1a\n' + bytes(64), 'PNG image'),
    'gguf': (lambda: b'GGUF\x03' + bytes(64), 'GGUF'),
    'tar': (lambda: b'a' * 257 + b'ustar' + bytes(300), 'tar archive'),
    'bit in a mantissa': (lambda: flipped('data/0', 0), 'damaged'),
    'bit in an exponent': (lambda: flipped('data/0', 3), 'damaged'),
    'bit in the pickle, front': (lambda: flipped('data.pkl', 3), 'damaged'),
    'bit in the pickle, middle': (lambda: flipped('data.pkl', 300), 'damaged'),
    'bit in the pickle, back': (lambda: flipped('data.pkl', 700), 'damaged'),
    'bit in the directory': (_flipped_directory, 'damaged'),
    'a list': (lambda: saved([1, 2]), 'holds a list'),
    'a tensor': (lambda: saved(torch.ones(2)), 'holds a Tensor'),
    'empty dict': (lambda: saved({}), 'no tensor by name'),
    'no weights': (lambda: saved(sound(state_dict={})), 'no tensor by name'),
    'weights in a list': (lambda: saved(sound(state_dict=[1])), 'state_dict is a list'),
    'weight is text': (lambda: saved(sound(state_dict=_state(**{'head.bias': 'x'}))), 'is a str'),
    'NaN in a weight': (lambda: saved(sound(state_dict=_state(**{'head.weight': NAN}))),
                        'not finite'),
    'NaN in a moment': (lambda: saved(sound(optimizer=dict(
        state={0: dict(momentum_buffer=NAN)}, param_groups=[]))), 'not finite'),
    'more values than bytes': (lambda: saved(sound(state_dict=_state(
        **{'head.weight': torch.zeros(1).expand(10**6, 10**6)}))), 'not that many values'),
    'shapes alone': (lambda: saved(sound(state_dict=_state(
        **{'head.weight': torch.empty(1, 2, device='meta')}))), 'not that many values'),
    'names twice': (lambda: saved(sound(state_dict=_state(
        **{'module.head.bias': torch.ones(1)}))), 'twice'),
    'old format, cut': (lambda: saved(
        sound(), _use_new_zipfile_serialization=False)[:-6], 'cut off'),
    'old format, cut in half': (lambda: saved(
        sound(), _use_new_zipfile_serialization=False)[:900], 'cut off'),
    'safetensors, cut': (lambda: save_safetensors(_state())[:-3], 'cut off'),
    'safetensors, cut to its header': (lambda: save_safetensors(_state())[:30], 'cut off'),
    'NumPy archive': (lambda: _npz(), 'NumPy'),
    'wrong shape': (lambda: saved(sound(state_dict=_state(
        **{'head.weight': torch.ones(1, 3)}))), 'checkpoint (1, 3), model (1, 2)'),
    'another model': (lambda: saved(sound(state_dict={'backbone.weight': torch.ones(2, 2)})),
                      'no weight of this model'),
    'TorchScript': (lambda: _script(), 'TorchScript'),
    'exported program': (lambda: _exported(), 'exported program'),
}


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


def _script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 2), torch.ones(1, 1)), file)
    return file.getvalue()


def _exported() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(1, 2), (torch.ones(1, 1), )), file)
    return file.getvalue()


# Contents of files that every door takes.
SOUND: dict[str, Callable[[], bytes]] = {
    'zip': lambda: saved(sound()),
    'old format': lambda: saved(sound(), _use_new_zipfile_serialization=False),
    'packed zip': lambda: _packed(),
    'prefix of DDP': lambda: saved(sound(
        state_dict={f'module.{key}': value for key, value in _state().items()})),
    'prefix of torch.compile': lambda: saved(sound(
        state_dict={f'_orig_mod.{key}': value for key, value in _state().items()})),
    'half precision': lambda: saved(sound(
        state_dict={key: value.half() for key, value in _state().items()})),
    'arrays': lambda: saved(sound(
        state_dict={key: value.numpy() for key, value in _state().items()})),
    'another seed': lambda: saved(sound(meta=_meta(seed=1))),
}
# Weights without the state of a run: all doors but resuming take them.
BARE: dict[str, Callable[[], bytes]] = {
    'bare weights': lambda: saved(_state()),
    'under model': lambda: saved(dict(model=_state(), iteration=3)),
    'safetensors': lambda: save_safetensors(_state()),
    'pickle of arrays': lambda: pickle.dumps(dict(
        model={key: value.numpy() for key, value in _state().items()}), protocol=2),
    'iteration is text': lambda: saved(sound(meta=_meta(iter='x'))),
    'no iteration': lambda: saved(sound(meta=dict(epoch=0))),
}


def _packed() -> bytes:
    """A zip archive that was unpacked and packed again, with compression."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(sound()))) as old, \
            zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return file.getvalue()


def _in_zip(opcodes: bytes) -> bytes:
    """A zip archive of torch around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in (('data.pkl', opcodes), ('version', b'3\n'), ('byteorder', b'little')):
            archive.writestr(f'archive/{name}', content)
    return file.getvalue()


def hostile(mark: Path) -> dict[str, bytes]:
    """Files that make ``mark`` if anything in them is run.

    Args:
        mark: A file that does not exist.
    """
    code = Code(mark)
    touch = f"touch '{mark}'"
    python = f"import os\nos.system({touch!r})\n"
    files = {}
    for protocol in range(6):
        files[f'plain pickle, protocol {protocol}'] = pickle.dumps(
            dict(state_dict=code), protocol=protocol)
    for protocol in (2, 3, 4, 5):
        files[f'zip, protocol {protocol}'] = saved(sound(more=code), pickle_protocol=protocol)
        files[f'old format, protocol {protocol}'] = saved(
            sound(more=code), pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    for place in ('meta', 'optimizer', 'message_hub', 'param_schedulers'):
        files[f'in {place}'] = saved(sound(**{place: dict(sound().get(place) or {}, x=code)}))
    files['as a weight'] = saved(sound(state_dict=_state(**{'head.bias': code})))
    files['as the key of a weight'] = saved(sound(state_dict={('a', 'b'): code}))
    files['as the file'] = saved(code)
    files['whole model'] = saved(ToyModel())
    files['code between two pickles'] = pickle.dumps(dict(model={})) + pickle.dumps(code)
    files['builtins.eval'] = _in_zip(
        b'\x80\x02cbuiltins\neval\nX' + struct.pack('<I', len(python)) + python.encode()
        + b'\x85R.')
    files['getattr to builtins'] = _in_zip(
        b'\x80\x02c__builtin__\ngetattr\nc__builtin__\ngetattr\nX\x08\x00\x00\x00__self__\x86R.')
    files['two records of one name'] = _two_records(code)
    files['tar of torch'] = b'sys_info'.ljust(257, b'\0') + b'ustar' + bytes(300) + pickle.dumps(
        code)
    files['behind a PNG header'] = b'\x89PNG\r\n\x1a\n' + pickle.dumps(code)
    return files


def _two_records(code: Code) -> bytes:
    file = io.BytesIO(saved(sound()))
    with zipfile.ZipFile(file) as archive:
        name = next(n for n in archive.namelist() if n.endswith('data.pkl'))
    with zipfile.ZipFile(file, 'a') as archive:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            archive.writestr(name, pickle.dumps(code, protocol=2))
    return file.getvalue()
