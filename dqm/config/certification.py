"""``[certification]`` and ``[registry]``: rules of sign-offs, and where they are sent."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dqm.config.grafana import check_url
from dqm.config.values import FaultName, KeyPath, Section, is_local

__all__ = ["CertificationSection", "RegistrySection"]

StreamGlob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._*?-]{1,64}$")]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class CertificationSection(Section):
    """``[certification]``: which sign-off of a run is proposed, and who may sign."""

    largest_bad_share: float = Field(
        0.05,
        ge=0.0,
        le=1.0,
        description="largest share of Bad time in the known time of a good stream",
    )
    least_covered_share: float = Field(
        0.8, ge=0.0, le=1.0, description="smallest share of the run with known quality in a good stream"
    )
    largest_left_out_share: float = Field(
        0.5, ge=0.0, le=1.0, description="largest share of the streams that a good run may leave out"
    )
    required: tuple[StreamGlob, ...] = Field(
        (),
        max_length=256,
        description="streams that must be good, otherwise the run is bad: names, with * and ?",
    )
    signers: tuple[UserName, ...] = Field(
        (), max_length=256, description="users with the role expert who may sign; empty: all experts"
    )
    faults: tuple[FaultName, ...] = Field(
        (),
        max_length=256,
        description="names of faults that are offered for labels, beside those used before",
    )


class RegistrySection(Section):
    """``[registry]``: a run registry that gets each sign-off as JSON."""

    url: Annotated[str, AfterValidator(check_url)] = Field(
        description="address that takes a POST, http:// or https://, without user and password"
    )
    token_file: KeyPath | None = Field(
        None,
        description="file with the token that is sent (Authorization: Bearer), mode 0600; relative to this "
        "file; default: none is sent",
    )
    timeout_seconds: float = Field(
        10.0, gt=0.0, le=300.0, description="longest wait for the registry in one step of a try, s"
    )

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        parts = urlsplit(self.url)
        if self.token_file is not None and parts.scheme == "http" and not is_local(f"{parts.hostname}:0"):
            raise ValueError(
                f"{self.url!r} is not https, and the token would be sent in clear text: use https, or leave "
                "token_file out"
            )
        return self
