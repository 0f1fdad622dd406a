"""The daemon's own page and JSON API; they decide nothing."""

from dqm.web.auth.authenticator import Authenticator
from dqm.web.auth.oidc import OidcProvider
from dqm.web.auth.users import UserFile, add_user, remove_user, set_role
from dqm.web.other_daemons import OtherDaemons
from dqm.web.queries import Queries
from dqm.web.server import HttpServer, create_app
from dqm.web.stream_status import N_RECENT, StreamStatuses
from dqm.web.timeline import HOURS as TIMELINE_HOURS

__all__ = [
    "N_RECENT",
    "TIMELINE_HOURS",
    "Authenticator",
    "HttpServer",
    "OidcProvider",
    "OtherDaemons",
    "Queries",
    "StreamStatuses",
    "UserFile",
    "add_user",
    "create_app",
    "remove_user",
    "set_role",
]
