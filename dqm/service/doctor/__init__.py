"""The doctor: looks at an installation while it runs, and says in a line what is wrong and what to do.

`examine` runs all checks. Each module checks one thing, and changes nothing. ``dqm check`` asks whether a
configuration can be run at all (`dqm.service.configuration_check`); the doctor begins with this and then
checks what only a running installation has.
"""

from dqm.service.doctor.diagnosis import Diagnosis
from dqm.service.doctor.examine import NAMES, DoctorOptions, examine

__all__ = ["NAMES", "Diagnosis", "DoctorOptions", "examine"]
