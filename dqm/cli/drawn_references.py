"""References that commands draw beside what they show, as far as they can be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dqm.cli.output import say
from dqm.errors import BundleError

if TYPE_CHECKING:
    from dqm.config import StreamSection
    from dqm.reference import StoredBundle

__all__ = ["read_references"]


def read_references(streams: Iterable[StreamSection]) -> dict[str, StoredBundle]:
    """Read the bundles of streams, by identifier; warn of those that cannot be read."""
    from dqm.reference import StoredBundle

    found = {}
    for path in sorted({reference.bundle for stream in streams for reference in stream.ordered_references}):
        try:
            bundle = StoredBundle.read(path)
        except BundleError as error:
            say(f"warning: a reference is not drawn: {error}", err=True)
        else:
            found[bundle.identifier] = bundle
    return found
