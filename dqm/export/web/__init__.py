"""The daemon's own page and JSON API."""

from dqm.export.web.app import site_handlers, site_routes, tell_problem
from dqm.export.web.door import Door, Guarded
from dqm.export.web.pulse import STOPPING
from dqm.export.web.security import OwnHost, SecurityHeaders
from dqm.export.web.site import Site, describe_bundle

__all__ = [
    "STOPPING",
    "Door",
    "Guarded",
    "OwnHost",
    "SecurityHeaders",
    "Site",
    "describe_bundle",
    "site_handlers",
    "site_routes",
    "tell_problem",
]
