"""``dqm run``: the daemon."""

from __future__ import annotations

import resource
import signal
from functools import partial
from threading import Event

from dqm.cli.process import stop_on_signals
from dqm.cli.settings import ConfigPath, Overrides, parse_overrides

__all__ = ["run"]

MOST_DESCRIPTORS = 65_536
"""Files a daemon may have open, if the system lets it: a worker takes ten for each bundle."""


def run(config: ConfigPath, override: Overrides = None) -> None:
    """Run the daemon: receive windows, judge them, store and show the verdicts; SIGHUP reloads CONFIG."""
    from dqm.config import load_daemon
    from dqm.service.monitor.daemon import Daemon
    from dqm.service.process_log import log_to_stderr
    from dqm.service.sd_notify import Notifier

    log_to_stderr()
    _raise_descriptor_limit()
    read = partial(load_daemon, config, parse_overrides(override))
    stop = stop_on_signals()
    reload = Event()
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload.set())
    with Daemon(read(), notifier=Notifier(), read_again=read, reload=reload) as daemon:
        daemon.run(stop)


def _raise_descriptor_limit() -> None:
    """Take what the hard limit allows; the soft one is 1024 on most systems, and workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
