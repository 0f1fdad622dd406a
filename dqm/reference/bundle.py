"""The reference bundle: what "good" is, frozen, named by the hash of its content.

A bundle is a directory of plain ``.npy`` arrays and one ``manifest.json`` that lists them with their
checksums. Array files are named by their content and never change. To calibrate a bundle is to add arrays and
put a new manifest in the place of the old one in a single step, so a reader sees the one or the other. The
identifier is the hash of the manifest: same content, same name; the manifest keeps its parent's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.errors import BundleError
from dqm.events import FloatArray, WindowCut

__all__ = ["ArrayFile", "Bundle", "Column", "Manifest", "Source", "open_bundle", "write_bundle"]

MANIFEST = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArrayFile(_Frozen):
    """One array of a bundle."""

    name: str = Field(pattern=r"^[a-z]+-[0-9a-f]{16}\.npy$", description="file name within the bundle")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the file")
    shape: tuple[int, ...] = Field(description="shape of the float64 array")


class Source(_Frozen):
    """File the events came from."""

    name: str = Field(description="file name without its directory")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the file")
    n_events: int = Field(ge=0, description="events read from it")


class Column(_Frozen):
    """Null table for windows of one kind and expected size."""

    cut: WindowCut = Field(description="what closes such windows")
    n_expected: float = Field(gt=0, description="events expected, N(R_0)")
    seed: int = Field(ge=0, description="seed of the toys")
    toys: ArrayFile = Field(description="statistic of each toy, in the order they were thrown")

    def covers(self, cut: WindowCut, n_expected: float) -> bool:
        """Tell whether a window belongs to this column.

        Windows cut by count must have the very size. For windows cut by time, half an event of expectation is
        allowed for: live times are not exact, and the table does not change over so little.
        """
        tolerance = 0.5 if cut is WindowCut.TIME else 0.0
        return self.cut is cut and abs(self.n_expected - n_expected) <= tolerance


class Manifest(_Frozen):
    """Everything about a bundle except the numbers."""

    format: Literal["dqm-reference"] = "dqm-reference"
    version: Literal[1] = 1
    features: tuple[str, ...] = Field(min_length=1, description="feature names, in the order of the columns")
    statistic: str = Field(description="entry point of the test, group dqm.statistics")
    settings: dict[str, float | int | str] = Field(description="arguments of the test")
    cut: WindowCut = Field(description="what closes the windows it is meant for")
    n_expected: float = Field(gt=0, description="events expected in them, N(R_0)")
    seed: int = Field(ge=0, description="seed that split the events and drew the centres")
    reference: ArrayFile
    centers: ArrayFile
    pool: ArrayFile
    null: tuple[Column, ...] = ()
    sources: tuple[Source, ...] = ()
    software: dict[str, str] = Field(default_factory=dict, description="versions that wrote it")
    parent: str | None = Field(default=None, description="bundle this one was calibrated from")

    def encode(self) -> bytes:
        """Give the bytes of the manifest file; their hash is the bundle's identifier."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


class Bundle:
    """A bundle opened for reading, its checksums verified.

    Parameters
    ----------
    path : Path
        Directory it was read from.
    manifest : Manifest
        Its description.
    arrays : dict of str to ndarray
        Arrays by file name.
    """

    def __init__(self, path: Path, manifest: Manifest, arrays: dict[str, FloatArray]) -> None:
        self.path = path
        self.manifest = manifest
        self.identifier = hashlib.sha256(manifest.encode()).hexdigest()[:16]
        self._arrays = arrays

    @property
    def reference(self) -> FloatArray:
        """Reference events, shape (n_reference, d), raw features."""
        return self._arrays[self.manifest.reference.name]

    @property
    def centers(self) -> FloatArray:
        """Kernel centres, shape (m, d), raw features."""
        return self._arrays[self.manifest.centers.name]

    @property
    def pool(self) -> FloatArray:
        """Events for toys, shape (n_pool, d), disjoint from the reference."""
        return self._arrays[self.manifest.pool.name]

    def toys(self, column: Column) -> FloatArray:
        """Statistic of the toys of one column of the null table, shape (n_toys,)."""
        return self._arrays[column.toys.name]

    def column(self, cut: WindowCut, n_expected: float) -> Column | None:
        """Find the column of the null table that covers a window, or None."""
        return next((c for c in self.manifest.null if c.covers(cut, n_expected)), None)

    def add_column(self, column: Column, toys: FloatArray) -> Bundle:
        """Write a null table into the bundle's directory; gives the new bundle.

        A column for the same windows is replaced. Raises `BundleError` if the directory cannot be written.
        """
        others = tuple(c for c in self.manifest.null if not c.covers(column.cut, column.n_expected))
        manifest = self.manifest.model_copy(update={"null": (*others, column), "parent": self.identifier})
        try:
            _write_atomically(self.path / column.toys.name, _npy(toys))
            _write_atomically(self.path / MANIFEST, manifest.encode())
        except OSError as error:
            raise BundleError(f"cannot write: {error.strerror}", where=str(self.path)) from error
        return Bundle(self.path, manifest, {**self._arrays, column.toys.name: toys})


def array_file(kind: str, values: FloatArray) -> ArrayFile:
    """Describe an array as it will be written: named ``kind`` and by its content."""
    digest = hashlib.sha256(_npy(values)).hexdigest()
    return ArrayFile(name=f"{kind}-{digest[:16]}.npy", sha256=digest, shape=values.shape)


def write_bundle(path: Path, manifest: Manifest, arrays: dict[str, FloatArray]) -> Bundle:
    """Write a new bundle; nothing is left behind if it fails.

    Parameters
    ----------
    path : Path
        Directory to create.
    manifest : Manifest
        Description that names the arrays.
    arrays : dict of str to ndarray
        Arrays by the file names in the manifest.

    Raises
    ------
    BundleError
        If `path` exists or cannot be written.
    """
    if path.exists():
        raise BundleError(
            "exists already", where=str(path), fix="Bundles are never overwritten: choose another name"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            made = Path(scratch) / "bundle"
            made.mkdir()
            for name, values in arrays.items():
                _write_atomically(made / name, _npy(values))
            _write_atomically(made / MANIFEST, manifest.encode())
            made.rename(path)
    except OSError as error:
        raise BundleError(f"cannot write: {error.strerror}", where=str(path)) from error
    return Bundle(path, manifest, arrays)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every checksum.

    Parameters
    ----------
    path : Path
        Directory of the bundle.

    Raises
    ------
    BundleError
        If it is no bundle, of a newer version, incomplete or altered.
    """
    where = str(path)
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(
            f"no reference bundle: {MANIFEST}: {error.strerror}",
            where=where,
            fix="Build one with 'dqm reference build'",
        ) from error
    manifest = _parse(text, where)
    files = [manifest.reference, manifest.centers, manifest.pool, *(c.toys for c in manifest.null)]
    return Bundle(path, manifest, {f.name: _read_array(path / f.name, f) for f in files})


def _parse(text: bytes, where: str) -> Manifest:
    try:
        raw: Any = json.loads(text)
        version = raw.get("version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > 1:
            raise BundleError(
                f"written by a newer dqm (bundle version {version}, this one reads 1)",
                where=where,
                fix="Upgrade dqm",
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


def _read_array(path: Path, expected: ArrayFile) -> FloatArray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path.name}: {error.strerror}", where=str(path.parent), fix="Rebuild the bundle"
        ) from error
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise BundleError(
            f"{path.name} does not have the checksum in {MANIFEST}: it was altered or cut short",
            where=str(path.parent),
            fix="Copy the bundle again or rebuild it",
        )
    try:
        values: FloatArray = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BundleError(f"{path.name} is no .npy array: {error}", where=str(path.parent)) from error
    if values.dtype != np.float64 or values.shape != expected.shape:
        raise BundleError(
            f"{path.name} is {values.dtype} {values.shape}, not float64 {expected.shape}",
            where=str(path.parent),
        )
    return values


def _npy(values: FloatArray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _write_atomically(path: Path, content: bytes) -> None:
    """Write so that a crash leaves either the old file or the new one."""
    scratch = path.with_name(f".{path.name}.tmp")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
