"""A first installation: from a collector and a good run to configurations, references and units of systemd.

`Workplace` is where it is made, beside its later place: nobody sees a part of it, and what took minutes is
not repeated. `Detector` says where events come from, `read_good_run` reads a good run, and `choose_window`
chooses a window that the run allows. `write_configuration` writes what needs no reference, `build_reference`
makes one, and `check_installation` refuses what the daemon would refuse.
"""

from dqm.service.installation.detector import Detector, required_options
from dqm.service.installation.good_run import ChamberRun, GoodRun, read_good_run, try_good_run
from dqm.service.installation.layout import (
    Layout,
    Windows,
    check_addresses,
    check_installation,
    write_configuration,
)
from dqm.service.installation.references import build_reference, check_window, choose_window, count_toys
from dqm.service.installation.workplace import Workplace

__all__ = [
    "ChamberRun",
    "Detector",
    "GoodRun",
    "Layout",
    "Windows",
    "Workplace",
    "build_reference",
    "check_addresses",
    "check_installation",
    "check_window",
    "choose_window",
    "count_toys",
    "read_good_run",
    "required_options",
    "try_good_run",
    "write_configuration",
]
