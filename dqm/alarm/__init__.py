"""From p-values to decisions: pure logic, time arrives as an argument."""

from dqm.alarm.amendments import Amendment, Decision, Entry, Overlay, RunJournal, Scope, SignOff, Withdrawal
from dqm.alarm.attention import StreamSign, attention, find_sign
from dqm.alarm.budget import ample_toys, smallest_supported_p
from dqm.alarm.certification import (
    AmendFlag,
    CertifyCommand,
    LabelFault,
    RunFacts,
    SignRun,
    WithdrawAmendment,
    certify,
    parse_windows,
)
from dqm.alarm.channels import ChannelChoice, KnownChannels, parse_numbers, write_numbers
from dqm.alarm.commands import (
    AcknowledgeAlarm,
    AcknowledgeGroup,
    AddMask,
    Command,
    RemoveMask,
    ShelveAlarm,
    UnshelveAlarm,
)
from dqm.alarm.engine import AlarmEngine
from dqm.alarm.groups import AlarmGroup, group_alarms
from dqm.alarm.masks import applies
from dqm.alarm.notices import Notice, NoticeKind, NoticeRules, Told, find_notices, note_told, notice_rules
from dqm.alarm.onset import Onset, find_onset
from dqm.alarm.quality import (
    ANOMALOUS,
    BEST_TO_WORST,
    QualityLimits,
    describe_p,
    describe_rate,
    describe_too_few,
    grade,
    warn,
    worst,
)
from dqm.alarm.rolling import AlarmsOfStream, RollingReference, look_at_alarms
from dqm.alarm.rules import Rules, StreamRules, Timing, alarm_rules
from dqm.alarm.run_summary import RunStatistics, means, summarise_run
from dqm.alarm.run_trend import StreamTrend, follow_runs, runs_to_read
from dqm.alarm.runs import Activity, belongs_to, describe_run, follow_run, is_idle
from dqm.alarm.sign_off import (
    Proposal,
    SignOffRules,
    StreamOutcome,
    may_sign,
    propose_sign_off,
    sign_off_rules,
)
from dqm.alarm.spans import Span
from dqm.alarm.standing import Standing
from dqm.alarm.thresholds import StreamFacts, Thresholds, derive_thresholds, quality_limits
from dqm.alarm.tree import Leaf, Node
from dqm.alarm.urgency import needs_response, urgency
from dqm.alarm.values import (
    RAISED,
    Acknowledgement,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Guidance,
    Mask,
    Priority,
    Shelf,
)

__all__ = [
    "ANOMALOUS",
    "BEST_TO_WORST",
    "RAISED",
    "AcknowledgeAlarm",
    "AcknowledgeGroup",
    "Acknowledgement",
    "Activity",
    "AddMask",
    "Alarm",
    "AlarmChange",
    "AlarmEngine",
    "AlarmGroup",
    "AlarmState",
    "AlarmsOfStream",
    "AmendFlag",
    "Amendment",
    "Cause",
    "CertifyCommand",
    "ChannelChoice",
    "Command",
    "Decision",
    "Entry",
    "Guidance",
    "KnownChannels",
    "LabelFault",
    "Leaf",
    "Mask",
    "Node",
    "Notice",
    "NoticeKind",
    "NoticeRules",
    "Onset",
    "Overlay",
    "Priority",
    "Proposal",
    "QualityLimits",
    "RemoveMask",
    "RollingReference",
    "Rules",
    "RunFacts",
    "RunJournal",
    "RunStatistics",
    "Scope",
    "Shelf",
    "ShelveAlarm",
    "SignOff",
    "SignOffRules",
    "SignRun",
    "Span",
    "Standing",
    "StreamFacts",
    "StreamOutcome",
    "StreamRules",
    "StreamSign",
    "StreamTrend",
    "Thresholds",
    "Timing",
    "Told",
    "UnshelveAlarm",
    "WithdrawAmendment",
    "Withdrawal",
    "alarm_rules",
    "ample_toys",
    "applies",
    "attention",
    "belongs_to",
    "certify",
    "derive_thresholds",
    "describe_p",
    "describe_rate",
    "describe_run",
    "describe_too_few",
    "find_notices",
    "find_onset",
    "find_sign",
    "follow_run",
    "follow_runs",
    "grade",
    "group_alarms",
    "is_idle",
    "look_at_alarms",
    "may_sign",
    "means",
    "needs_response",
    "note_told",
    "notice_rules",
    "parse_numbers",
    "parse_windows",
    "propose_sign_off",
    "quality_limits",
    "runs_to_read",
    "sign_off_rules",
    "smallest_supported_p",
    "summarise_run",
    "urgency",
    "warn",
    "worst",
    "write_numbers",
]
