"""The certificate of a bundle: what was measured of it, and what follows for its use.

It is a file of its own in the bundle's directory, beside the manifest: the manifest's hash names the bundle,
and verdicts name the bundle, so a certificate must not change it. The file has its own checksum, and the hash
of what it was made for (`subject_of`). Another null table or nuisance parameter is another subject: the
certificate does not count any more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from dqm.config import replacing
from dqm.errors import BundleError
from dqm.reference.manifest import Manifest

__all__ = [
    "CERTIFICATE",
    "LATER_RUN",
    "LONGEST_TEXT",
    "Certificate",
    "CertificateLine",
    "CertificateStatus",
    "Light",
    "find_certificate",
    "read_certificate",
    "subject_of",
    "write_certificate",
]

CERTIFICATE = "certificate.json"

LATER_RUN = "later run"
"""Name of the lines that judge later runs, one each; their `found` begins with the name of the run."""

MOST_LINES = 100

LONGEST_TEXT = 1000
"""Characters of a text in a certificate, at most."""

_LARGEST_BYTES = 2**20


class Light(StrEnum):
    """What a line of a certificate says of the bundle."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"

    @staticmethod
    def worst(lights: Sequence[Light]) -> Light:
        """Give the worst of some lights; green if there are none."""
        return max(lights, key=list(Light).index, default=Light.GREEN)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CertificateLine(_Frozen):
    """One thing that was measured."""

    name: str = Field(pattern=r"^[a-z -]{1,40}$", description="what was looked at")
    light: Light = Field(description="green: use it; amber: know this; red: do not use it as it is")
    number: float = Field(description="what was measured, as `found` says")
    found: str = Field(max_length=LONGEST_TEXT, description="the number in words")
    meaning: str = Field(max_length=LONGEST_TEXT, description="what it means")
    action: str = Field(default="", max_length=LONGEST_TEXT, description="what to do; empty for green")


class Certificate(_Frozen):
    """What was measured of a bundle."""

    format: Literal["dqm-certificate"] = "dqm-certificate"
    version: Literal[1] = 1
    subject: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of what it was made for")
    windows: str = Field(max_length=LONGEST_TEXT, description="windows that were tested")
    made_at: float = Field(ge=0, description="when, Unix seconds")
    lines: tuple[CertificateLine, ...] = Field(min_length=1, max_length=MOST_LINES)
    software: dict[str, str] = Field(default_factory=dict, description="versions that made it")

    @property
    def light(self) -> Light:
        """The worst of its lines."""
        return Light.worst([line.light for line in self.lines])

    def lines_of(self, light: Light) -> tuple[CertificateLine, ...]:
        """Give the lines of one light."""
        return tuple(line for line in self.lines if line.light is light)

    def with_later_of(self, before: Certificate | None, names: Collection[str]) -> Certificate:
        """Keep what is known of later runs: a fault of the bundle that was seen does not go by itself.

        Parameters
        ----------
        before : Certificate or None
            The one that counted until now.
        names : collection of str
            Later runs that were tested now; all others are kept, if they were tested in such windows. Of more
            than a certificate holds, those that are green and oldest are left out.
        """
        if before is None or before.windows != self.windows:
            return self
        kept = [
            line
            for line in before.lines
            if line.name == LATER_RUN and not any(line.found.startswith(f"{name}: ") for name in names)
        ]
        kept.sort(key=lambda line: list(Light).index(line.light), reverse=True)
        return self.model_copy(update={"lines": (*self.lines, *kept)[:MOST_LINES]})

    def encode(self) -> bytes:
        """Give the bytes of its file: its content, and the checksum of that."""
        content = self.model_dump(mode="json")
        checked = content | {"sha256": _checksum(content)}
        return (json.dumps(checked, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What is known of the certificate of a bundle.

    Parameters
    ----------
    certificate : Certificate or None
        The one that counts.
    why_none : str
        Why none counts; empty if one does.
    """

    certificate: Certificate | None
    why_none: str = ""


def subject_of(manifest: Manifest) -> str:
    """Hash all that decides on p-values. Templates of faults and the bundle's ancestry do not."""
    bare = manifest.model_copy(update={"templates": (), "parent": None})
    return hashlib.sha256(bare.encode()).hexdigest()


def find_certificate(path: Path, manifest: Manifest) -> CertificateStatus:
    """Look for the certificate of a bundle that counts.

    Parameters
    ----------
    path : Path
        Directory of the bundle.
    manifest : Manifest
        Its description.
    """
    try:
        certificate = read_certificate(path)
    except BundleError as error:
        return CertificateStatus(None, error.what)
    if certificate is None:
        return CertificateStatus(None, "it has no certificate")
    if certificate.subject != subject_of(manifest):
        return CertificateStatus(
            None, "its certificate was made before its null tables or nuisance parameters changed"
        )
    return CertificateStatus(certificate)


def read_certificate(path: Path) -> Certificate | None:
    """Read the certificate in a bundle's directory, whether or not it counts; None if there is none.

    Raises
    ------
    BundleError
        If it cannot be read, was altered, or is of another version.
    """
    where = str(path)
    fix = "Run 'dqm reference validate' again"
    try:
        with (path / CERTIFICATE).open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{CERTIFICATE}: {error.strerror}", where=where, fix=fix) from error
    if len(text) > _LARGEST_BYTES:
        raise BundleError(f"{CERTIFICATE} has more than {_LARGEST_BYTES} bytes", where=where, fix=fix)
    try:
        content: Any = from_json(text)
        if not isinstance(content, dict) or content.pop("sha256", "") != _checksum(content):
            raise BundleError(f"{CERTIFICATE} was altered or cut short", where=where, fix=fix)
        return Certificate.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"{CERTIFICATE} is not valid: {key}: {first['msg']}"
        raise BundleError(what, where=where, fix=fix) from error
    except ValueError as error:
        raise BundleError(f"{CERTIFICATE} is not JSON: {error}", where=where, fix=fix) from error


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Write a certificate into a bundle's directory, in a single step; raises `BundleError` if it cannot."""
    try:
        with replacing(path / CERTIFICATE) as scratch, scratch.open("wb") as file:
            file.write(certificate.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BundleError(
            f"cannot write: {error.strerror}",
            where=str(path / CERTIFICATE),
            fix="Free space on the disk, or change the rights of the directory",
        ) from error


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
