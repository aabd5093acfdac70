"""PyTorch's checkpoints and pickled vocabularies, read without running anything of them.

A pickle is a program. Here it can build plain values, tensors, and objects that only hold attributes; of its
instructions those are known that such files use. It is read by Python's own unpickler, as the one in C sets
aside as much memory as a pickle asks for.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from captionbot.errors import CaptionBotError, shortened

if TYPE_CHECKING:
    from torch import Tensor

_MOST_PICKLE = 4_000_000  # bytes of all instructions; the largest that is known has a tenth as many
_PIECE = 1 << 24
_MAGIC = 0x1950A86A20F9469CFC6C  # of files of `torch.save` until 2020
_VOCABULARY_CLASSES = ("__main__.Vocab_Builder", "vocab.Vocab_Builder")
_INSTRUCTIONS = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.NONE,
    pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1,
    pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINSTRING, pickle.SHORT_BINSTRING,
    pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM,
    pickle.SETITEMS, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD, pickle.BINPERSID,
)  # fmt: skip


class _Stub:
    """Stands for a class that is known: it holds attributes, and has nothing to call."""


class _Refused(Exception):
    """A name that no such file needs."""


class _Bounded:
    """A file of which a pickle may read no more than there is, and so much in all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _MOST_PICKLE

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise ValueError("a pickle is too long")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError("a pickle is too long")
        return line


class _Unpickler(pickle._Unpickler):
    """Reads plain values, and what is known by its dotted name; refuses everything else.

    known: functions to call, or `_Stub` for a class.
    """

    stack: list[Any]  # of Python's own unpickler, as `pop_mark` is
    pop_mark: Callable[[], list[Any]]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS
    }

    def __init__(self, file: _Bounded, known: Mapping[str, Any]) -> None:
        super().__init__(file)
        self.known = known

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full not in self.known:
            raise _Refused(full)
        return self.known[full]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not any(function is one for one in self.known.values()):
            raise ValueError("a pickle calls what is no function")
        self.stack[-1] = _Stub() if function is _Stub else function(*arguments)

    def load_newobj(self) -> None:
        self.stack.pop()
        if self.stack.pop() is not _Stub:
            raise ValueError("a pickle makes an instance of what is no class")
        self.stack.append(_Stub())

    def load_build(self) -> None:
        """Attributes of a stub; what others have beside their items is passed over."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], _Stub) and isinstance(state, dict):
            vars(self.stack[-1]).update({key: value for key, value in state.items() if isinstance(key, str)})

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set(self.stack[-1], items)

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }


def _set(into: Any, items: Sequence[Any]) -> None:
    """Keys and values by turns. Tuples that hold tuples twice over would take for ever as keys."""
    if not isinstance(into, dict) or any(isinstance(key, tuple) for key in items[::2]):
        raise ValueError("a pickle has a tuple for a key")
    into.update(zip(items[::2], items[1::2], strict=True))


def _ordered(pairs: Sequence[Sequence[Any]] = ()) -> OrderedDict[Any, Any]:
    found: OrderedDict[Any, Any] = OrderedDict()
    for pair in pairs:
        _set(found, pair)
    return found


def read_checkpoint(path: Path, classes: Sequence[str] = ()) -> Any:
    """What `torch.save` wrote, in its format of today or of 2018, on the CPU.

    classes: dotted names that may occur besides tensors and plain containers. Of each instance only the
        attributes are read.
    Raises CaptionBotError for a file that names anything else, before anything of it is built, and for one
    that asks for more memory than it has bytes.
    """
    with _sentence(
        path,
        "is no checkpoint that can be read safely (damaged, or of another format): fetch it again from its "
        "author.",
    ):
        storages = _Storages(path.stat().st_size)
        known = storages.known(classes)
        if zipfile.is_zipfile(path):
            return _read_zip(path, storages, known)
        return _read_of_2018(path, storages, known)


def read_pickle(path: Path, classes: Sequence[str]) -> Any:
    """What `pickle.dump` wrote in binary form, without tensors; classes as of `read_checkpoint`."""
    with _sentence(path, "is no pickle that can be read safely (damaged, or too old): fetch it again."):
        return _unpickled(path, classes)


def _unpickled(path: Path, classes: Sequence[str]) -> Any:
    with path.open("rb") as file:
        return _Unpickler(_Bounded(file), dict.fromkeys(classes, _Stub)).load()


def read_vocabulary(path: Path) -> list[str]:
    """sankalp1999's tokens in the order of their ids: a pickled class, or a JSON with "itos"."""
    if path.suffix == ".json":
        from captionbot.store.importers.imported import vocabulary_json

        return list(vocabulary_json(path)["itos"])
    with _sentence(path, "is no pickled vocabulary with its 'itos': fetch it again from its author."):
        found = _unpickled(path, _VOCABULARY_CLASSES)
        itos = vars(found)["itos"]
        return [itos[i] for i in range(len(itos))]


@contextmanager
def _sentence(path: Path, said: str) -> Iterator[None]:
    try:
        yield
    except CaptionBotError:
        raise
    except _Refused as error:
        raise CaptionBotError(
            f"{shortened(path)} names {shortened(error)}, which no such file needs and which could run "
            "anything: it was refused and nothing of it was run; fetch it again from its author."
        ) from None
    except OSError as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({error.strerror}): give an existing file."
        ) from None
    except Exception:  # a damaged file raises errors of every kind
        raise CaptionBotError(f"{shortened(path)} {said}") from None


class _Storages:
    """The numbers that tensors are views of, which a file holds apart from its pickle.

    They are as many bytes as the file at most, and so are the tensors, four times over: two names may share
    one, and a project may save its encoder twice.
    """

    def __init__(self, size: int) -> None:
        self.found: dict[str, Tensor] = {}
        self._left, self._left_in_tensors = size, 4 * size

    def known(self, classes: Sequence[str]) -> dict[str, Any]:
        """What a pickle may name."""
        import torch

        kinds = {
            "Float": torch.float32, "Double": torch.float64, "Half": torch.float16,
            "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
            "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
        }  # fmt: skip
        return {
            **dict.fromkeys(classes, _Stub),
            **{f"torch.{kind}Storage": dtype for kind, dtype in kinds.items()},
            **{f"torch.cuda.{kind}Storage": dtype for kind, dtype in kinds.items()},
            "builtins.set": lambda *_: set(),
            "collections.OrderedDict": _ordered,
            "collections.defaultdict": lambda *_: {},
            "torch.Size": lambda sizes=(): tuple(sizes),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
        }

    def storage(self, saved: tuple[Any, ...]) -> Any:
        """Of `persistent_load`: ("storage", type, key, location, count, view), or ("module", class, ...)."""
        import torch

        if saved[0] == "module":
            return saved[1]
        dtype, key, _, count, *view = saved[1:]
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError("a storage is none")
        if key not in self.found:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise ValueError("storages are larger than the file")
            self.found[key] = torch.empty(count, dtype=dtype)
        flat = self.found[key]
        return flat[view[0][1] : view[0][1] + view[0][2]] if view and view[0] else flat

    def tensor(self, flat: Tensor, start: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
        if any(type(number) is not int or number < 0 for number in (start, *size, *stride)):
            raise ValueError("a tensor is none")
        numbers = math.prod(size)
        self._left_in_tensors -= numbers * flat.itemsize
        if numbers > len(flat) or self._left_in_tensors < 0:
            raise ValueError("tensors are larger than the file")
        return flat.as_strided(tuple(size), tuple(stride), flat.storage_offset() + start)

    def fill(self, key: str, file: IO[bytes]) -> None:
        """Read a storage's bytes from a file that stands at them."""
        import torch

        flat = self.found[key]
        into = memoryview(flat.view(torch.uint8).numpy().data) if len(flat) else memoryview(bytearray())
        while len(into):
            data = file.read(min(len(into), _PIECE))
            if not data:
                raise ValueError("a storage is cut off")
            into[: len(data)] = data
            into = into[len(data) :]


def _read_pickle(file: IO[bytes], storages: _Storages, known: Mapping[str, Any]) -> Any:
    reader = _Unpickler(_Bounded(file), known)
    reader.persistent_load = storages.storage  # type: ignore[method-assign, assignment]
    return reader.load()


def _read_zip(path: Path, storages: _Storages, known: Mapping[str, Any]) -> Any:
    """The pickle is the member FOLDER/data.pkl, storage KEY is FOLDER/data/KEY; none is compressed."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            found = _read_pickle(file, storages, known)
        for key, flat in storages.found.items():
            member = archive.getinfo(name.removesuffix(".pkl") + f"/{key}")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != flat.nbytes:
                raise ValueError("a storage is not of its size")
            with archive.open(member) as file:
                storages.fill(key, file)
    return found


def _read_of_2018(path: Path, storages: _Storages, known: Mapping[str, Any]) -> Any:
    """Five pickles, and for each key of the last one an int64 count and so many numbers."""
    with path.open("rb") as file:
        magic, _version, _system, found, keys = (_read_pickle(file, storages, known) for _ in range(5))
        if magic != _MAGIC:
            raise ValueError("this is no checkpoint")
        for key in keys:
            if struct.unpack("<q", file.read(8)) != (len(storages.found[key]),):
                raise ValueError("a storage is not of its size")
            storages.fill(key, file)
    return found
