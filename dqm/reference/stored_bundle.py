"""The reference bundle: what "good" is, frozen, named by the hash of its content.

A bundle is a directory of plain ``.npy`` arrays and one ``manifest.json`` that lists them with their
checksums. Array files are named by their content and never change. Calibration, a new nuisance parameter or
templates of faults add arrays and replace the manifest in a single step, so a reader sees the old bundle or
the new one. The identifier is the hash of the manifest: same content, same name. The manifest also has the
identifier of its parent.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import from_json

from dqm.config import replacing
from dqm.errors import BundleError, InputError
from dqm.events import FloatArray
from dqm.nplm.samples import Sample
from dqm.reference.manifest import (
    VERSION,
    ArrayFile,
    Manifest,
    NuisanceEntry,
    NullTableEntry,
    TemplateEntry,
    WindowKind,
    WindowRange,
)

__all__ = ["AnyBundle", "StoredBundle", "array_file", "read_files", "write_bundle"]

MANIFEST = "manifest.json"

_LARGEST_MANIFEST_BYTES = 2**24
_LARGEST_HEADER_BYTES = 2**16
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_NPY_DAMAGE = (
    EOFError, LookupError, MemoryError, OverflowError, RecursionError, SyntaxError, TokenError, TypeError,
    ValueError,
)  # fmt: skip
"""Errors that numpy raises on a damaged header, which it reads as a Python literal."""

NumberArray = NDArray[Any]
"""Array of a bundle: float64, or float32 if the test stores it so."""


Stamp = tuple[int, int, int]
"""Inode, size and time of the last change of a file."""


class StoredBundle:
    """Content of a bundle's directory, with verified checksums; never changed after it is read.

    Parameters
    ----------
    path : Path
        Directory it was read from.
    manifest : Manifest
        Its description.
    arrays : dict of str to ndarray
        Arrays by file name.
    stamps : mapping of str to Stamp, optional
        Of the files that are mapped rather than read, by their names.
    owner : object, optional
        Object that removes the directory when nothing refers to it any more; kept as long as the bundle.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        arrays: Mapping[str, NumberArray],
        stamps: Mapping[str, Stamp] | None = None,
        owner: object = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.identifier = hashlib.sha256(manifest.encode()).hexdigest()[:16]
        self._arrays = arrays
        self._stamps = {path / name: stamp for name, stamp in (stamps or {}).items()}
        self._owner = owner

    @classmethod
    def read(cls, path: Path, owner: object = None) -> Self:
        """Read a bundle and verify every checksum.

        Parameters
        ----------
        path : Path
            Directory of the bundle.
        owner : object, optional
            As in the constructor.

        Raises
        ------
        BundleError
            If it is not a bundle, of a newer version, incomplete or altered.
        """
        manifest = _read_manifest(path)
        found = {file.name: _read_array(path / file.name, file) for file in manifest.files}
        arrays = {name: array for name, (array, _) in found.items()}
        return cls(path, manifest, arrays, {name: stamp for name, (_, stamp) in found.items()}, owner)

    def verify(self) -> None:
        """Check that the files were not written since they were opened: mapped arrays change with them.

        A file that was removed or replaced does not matter: the old one is still mapped.

        Raises
        ------
        BundleError
            If a file was altered or cut short.
        """
        for path, stamp in self._stamps.items():
            try:
                now = _stamp(path.stat())
            except OSError:
                continue
            if now[0] == stamp[0] and now != stamp:
                raise BundleError(
                    "was altered while it was in use",
                    where=str(path),
                    fix="Copy the bundle again or rebuild it, and restart what uses it",
                )

    def check_identifier(self, identifier: str) -> None:
        """Refuse any bundle except the one that is expected; raises `BundleError`."""
        if self.identifier != identifier:
            raise BundleError(
                f"is bundle {self.identifier}, not {identifier}",
                where=str(self.path),
                fix="If it was changed meanwhile, begin again",
            )

    def refuse_counted(self, what: str) -> None:
        """Refuse counted rows, where single events are needed; raises `InputError`."""
        self.refuse_channels(what)
        if self.manifest.counted is not None:
            raise InputError(
                f"a bundle of histograms takes no {what}",
                where=str(self.path),
                fix="Build the bundle from single events",
            )

    def refuse_channels(self, what: str) -> None:
        """Refuse a reference of channels; raises `InputError`."""
        if self.manifest.is_of_channels:
            raise InputError(
                f"a bundle of the statistic {self.manifest.statistic} takes no {what}", where=str(self.path)
            )

    @property
    def reference(self) -> FloatArray:
        """Reference rows, shape (n_rows, d), raw features; of channels, their hits in windows."""
        return self._arrays[self.manifest.reference.name]

    @property
    def centers(self) -> FloatArray:
        """Kernel centres, shape (m, d), raw features."""
        return self._arrays[self.manifest.centers.name]

    @property
    def pool(self) -> FloatArray:
        """Rows for toys, shape (n_rows, d); their events are disjoint from those of the reference."""
        return self._arrays[self.manifest.pool.name]

    @property
    def reference_sample(self) -> Sample:
        """Reference events, with the number of them that each row stands for."""
        counted = self.manifest.counted
        return Sample(self.reference, None if counted is None else self._arrays[counted.reference.name])

    @property
    def pool_sample(self) -> Sample:
        """Events for toys, likewise."""
        counted = self.manifest.counted
        return Sample(self.pool, None if counted is None else self._arrays[counted.pool.name])

    @property
    def bins(self) -> FloatArray | None:
        """All rows that a window of counted rows may have, shape (n_bins, d); None for single events."""
        counted = self.manifest.counted
        return None if counted is None else self._arrays[counted.bins.name]

    def toys(self, entry: NullTableEntry) -> FloatArray:
        """Outcome of the toys of one null table, shape (n_toys, 2 + 2 k).

        Columns are t, tau and, for each of k nuisance parameters, its pull without and with anomaly; a pull
        is NaN where there is none.
        """
        return self._arrays[entry.toys.name]

    @property
    def prepared(self) -> dict[str, NumberArray]:
        """What the test computed from reference and centres when the bundle was built, by name."""
        return {name: self._arrays[file.name] for name, file in self.manifest.prepared.items()}

    def model(self, entry: NuisanceEntry | TemplateEntry) -> dict[str, FloatArray]:
        """Numbers of a learned log ratio, by name."""
        return {name: self._arrays[file.name] for name, file in entry.arrays.items()}

    def null_entry(self, kind: WindowKind) -> NullTableEntry | None:
        """Find the null table that covers a kind of windows, or None."""
        return next((c for c in self.manifest.null if c.kind.covers(kind)), None)

    def add_null_table(self, entry: NullTableEntry, toys: FloatArray) -> Self:
        """Write a null table into the bundle's directory; gives the new bundle.

        A table for the same windows is replaced. Raises `BundleError` if the directory cannot be written.
        """
        others = tuple(c for c in self.manifest.null if not c.kind.covers(entry.kind))
        return self._replace({"null": (*others, entry)}, {entry.toys.name: toys})

    def add_range(
        self, window_range: WindowRange, tables: Sequence[tuple[NullTableEntry, FloatArray]]
    ) -> Self:
        """Write the null tables of a range into the bundle's directory; gives the new bundle.

        Tables of such windows in the range are replaced, and also ranges that overlap with it. Raises
        `BundleError` if the directory cannot be written.
        """
        others = tuple(c for c in self.manifest.null if not window_range.covers(c.kind))
        ranges = tuple(r for r in self.manifest.ranges if not r.overlaps(window_range))
        change: dict[str, object] = {
            "null": (*others, *(entry for entry, _ in tables)),
            "ranges": (*ranges, window_range),
        }
        return self._replace(change, {entry.toys.name: toys for entry, toys in tables})

    def add_nuisance(self, entry: NuisanceEntry, arrays: Mapping[str, FloatArray]) -> Self:
        """Write a nuisance parameter into the bundle's directory; gives the new bundle.

        A parameter of the same name is replaced. The null tables are removed: they belong to another test.
        Raises `BundleError` if the directory cannot be written.
        """
        others = tuple(other for other in self.manifest.nuisances if other.name != entry.name)
        files = {entry.arrays[name].name: values for name, values in arrays.items()}
        return self._replace({"nuisances": (*others, entry), "null": (), "ranges": ()}, files)

    def add_templates(self, learned: Sequence[tuple[TemplateEntry, Mapping[str, FloatArray]]]) -> Self:
        """Write templates of faults into the bundle's directory; gives the new bundle.

        Templates of the same faults are replaced. Null tables stay: p does not depend on templates. Raises
        `BundleError` if the directory cannot be written.
        """
        faults = {entry.fault for entry, _ in learned}
        others = tuple(other for other in self.manifest.templates if other.fault not in faults)
        files = {
            entry.arrays[name].name: values for entry, arrays in learned for name, values in arrays.items()
        }
        return self._replace({"templates": (*others, *(entry for entry, _ in learned))}, files)

    def _replace(self, change: dict[str, object], files: Mapping[str, NumberArray]) -> Self:
        manifest = self.manifest.model_copy(update={**change, "parent": self.identifier})
        try:
            for name, values in files.items():
                _write_atomically(self.path / name, _npy(values))
            _write_atomically(self.path / MANIFEST, manifest.encode())
        except OSError as error:
            raise BundleError(
                f"cannot write: {error.strerror}",
                where=str(self.path),
                fix="Free space on the disk, or change the rights of the directory",
            ) from error
        arrays = {**self._arrays, **files}
        kept = {file.name: arrays[file.name] for file in manifest.files}
        return type(self)(self.path, manifest, kept, owner=self._owner)


AnyBundle = TypeVar("AnyBundle", bound=StoredBundle)
"""Functions that change a bundle give one of the same class."""


def array_file(kind: str, values: NumberArray) -> ArrayFile:
    """Describe an array as it will be written: named ``kind`` and by its content."""
    digest = hashlib.sha256(_npy(values)).hexdigest()
    dtype: Any = values.dtype.name
    return ArrayFile(name=f"{kind}-{digest[:16]}.npy", sha256=digest, shape=values.shape, dtype=dtype)


def write_bundle(
    path: Path, manifest: Manifest, arrays: Mapping[str, NumberArray], *, overwrite: bool = False
) -> StoredBundle:
    """Write a bundle; nothing is left behind if it fails.

    Parameters
    ----------
    path : Path
        Directory to create.
    manifest : Manifest
        Description that names the arrays.
    arrays : dict of str to ndarray
        Arrays by the file names in the manifest.
    overwrite : bool
        Replace an existing bundle in a single step: a reader sees the one or the other. Anything else is
        never overwritten.

    Raises
    ------
    BundleError
        If `path` exists or cannot be written.
    """
    if path.exists() and not overwrite:
        raise BundleError(
            "exists already", where=str(path), fix="Bundles are never overwritten: choose another name"
        )
    try:
        if path.exists():
            _overwrite(path, manifest, arrays)
        else:
            _create(path, manifest, arrays)
    except OSError as error:
        raise BundleError(
            f"cannot write: {error.strerror}",
            where=str(path),
            fix="Free space on the disk, or change the rights of the directory",
        ) from error
    return StoredBundle(path, manifest, arrays)


def _create(path: Path, manifest: Manifest, arrays: Mapping[str, NumberArray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        for name, values in arrays.items():
            _write_atomically(made / name, _npy(values))
        _write_atomically(made / MANIFEST, manifest.encode())
        made.rename(path)


def _overwrite(path: Path, manifest: Manifest, arrays: Mapping[str, NumberArray]) -> None:
    """Put a bundle in the place of another; arrays that only the old one has are removed last."""
    before = _read_manifest(path)
    for name, values in arrays.items():
        _write_atomically(path / name, _npy(values))
    _write_atomically(path / MANIFEST, manifest.encode())
    for name in {file.name for file in before.files} - set(arrays):
        (path / name).unlink(missing_ok=True)


def read_files(path: Path) -> dict[str, bytes]:
    """Read the files of a bundle, to be sent elsewhere; raises `BundleError` as `StoredBundle.read`."""
    names = [MANIFEST, *(file.name for file in StoredBundle.read(path).manifest.files)]
    return {name: (path / name).read_bytes() for name in names}


def _read_manifest(path: Path) -> Manifest:
    where = str(path)
    try:
        with (path / MANIFEST).open("rb") as file:
            text = file.read(_LARGEST_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"no reference bundle: {MANIFEST}: {error.strerror}",
            where=where,
            fix="Build one with 'dqm reference build'",
        ) from error
    if len(text) > _LARGEST_MANIFEST_BYTES:
        raise BundleError(
            f"{MANIFEST} has more than {_LARGEST_MANIFEST_BYTES} bytes",
            where=where,
            fix="Copy the bundle again, or build it again",
        )
    return _parse(text, where)


def _parse(text: bytes, where: str) -> Manifest:
    try:
        raw: Any = from_json(text)
        version = raw.get("version") if isinstance(raw, dict) else None
        if version is not None and not isinstance(version, int):
            raise BundleError(
                f"{MANIFEST} has the version {version!r}, which is not a number",
                where=where,
                fix="It was altered: take a copy, or build the bundle again",
            )
        if isinstance(version, int) and version != VERSION:
            age, fix = ("a newer", "Upgrade dqm") if version > VERSION else ("an older", "Rebuild the bundle")
            raise BundleError(
                f"written by {age} dqm (bundle version {version}, this one reads {VERSION})",
                where=where,
                fix=fix,
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{MANIFEST} is not valid: {key}: {first['msg']}", where=where, fix="Rebuild the bundle"
        ) from error
    except ValueError as error:
        raise BundleError(
            f"{MANIFEST} is not JSON: {error}", where=where, fix="Rebuild the bundle"
        ) from error


def _read_array(path: Path, expected: ArrayFile) -> tuple[NumberArray, Stamp]:
    """Verify a file and map it: processes that open the same bundle share its memory."""
    where = str(path.parent)
    dtype = np.dtype(expected.dtype)
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_size > _most_bytes(expected):
                raise BundleError(
                    f"{path.name} has more than {_most_bytes(expected)} bytes",
                    where=where,
                    fix="Copy the bundle again, or build it again",
                )
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                raise BundleError(
                    f"{path.name} does not have the checksum in {MANIFEST}: it was altered or cut short",
                    where=where,
                    fix="Copy the bundle again or rebuild it",
                )
            file.seek(0)
            shape, is_fortran, found = _NPY_HEADERS[np.lib.format.read_magic(file)](file)
            if (found, shape) == (dtype, expected.shape):  # nothing is mapped for another claim
                order: Literal["C", "F"] = "F" if is_fortran else "C"
                return _map(path, file.tell(), dtype, shape, order), _stamp(facts)
    except OSError as error:
        raise BundleError(f"{path.name}: {error.strerror}", where=where, fix="Rebuild the bundle") from error
    except _NPY_DAMAGE as error:
        raise BundleError(
            f"{path.name} is no .npy array: {error}",
            where=where,
            fix="Copy the bundle again, or build it again",
        ) from error
    raise BundleError(
        f"{path.name} is {found} {shape}, not {dtype} {expected.shape}",
        where=where,
        fix="Copy the bundle again, or build it again",
    )


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _map(
    path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
) -> NumberArray:
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    # copied on write, which nobody does: torch takes no arrays that are read-only
    mapped = np.memmap(path, dtype, mode="c", offset=offset, shape=shape, order=order)
    return mapped.view(np.ndarray)


def _most_bytes(expected: ArrayFile) -> int:
    return np.dtype(expected.dtype).itemsize * math.prod(expected.shape) + _LARGEST_HEADER_BYTES


def _npy(values: NumberArray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _write_atomically(path: Path, content: bytes) -> None:
    """Write so that a crash leaves either the old file or the new one."""
    with replacing(path) as scratch, scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
