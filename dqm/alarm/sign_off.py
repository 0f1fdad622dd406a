"""Which sign-off the program proposes for a run, and who may sign: rules that are configured. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dqm.alarm.amendments import Decision
from dqm.config import CertificationSection
from dqm.errors import format_count, format_names
from dqm.events import Quality

__all__ = ["Proposal", "SignOffRules", "StreamOutcome", "may_sign", "propose_sign_off", "sign_off_rules"]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SignOffRules:
    """Rules of sign-offs.

    Parameters
    ----------
    largest_bad_share : float
        Largest share of Bad time of a stream that is good, 0 to 1.
    least_covered_share : float
        Least share of the run of which something is known in a stream that is good, 0 to 1.
    largest_left_out_share : float
        Largest share of the streams that a good run may leave out, 0 to 1.
    required : tuple of str
        Streams that must be good, by name, with ``*`` and ``?``.
    signers : frozenset of str
        Users who may sign; empty: every user of the role.
    faults : tuple of str
        Names of faults that are offered.
    """

    largest_bad_share: float = 0.05
    least_covered_share: float = 0.8
    largest_left_out_share: float = 0.5
    required: tuple[str, ...] = ()
    signers: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """How a stream did in a run.

    Parameters
    ----------
    stream : str
        Its name.
    shares : mapping of Quality to float
        Share of the time of the run, 0 to 1; that without window is Null. They add up to 1; all are 0 if the
        run has no time.
    is_good : bool
        Whether it keeps the rules.
    reason : str
        Why it does not; empty if it does.
    """

    stream: str
    shares: Mapping[Quality, float]
    is_good: bool
    reason: str

    @property
    def covered_share(self) -> float:
        """Share of the time of which something is known."""
        return sum(share for quality, share in self.shares.items() if quality is not Quality.NULL)

    @property
    def bad_share(self) -> float | None:
        """Share of Bad time in that of which something is known; None if nothing is."""
        covered = self.covered_share
        return self.shares.get(Quality.BAD, 0.0) / covered if covered else None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the program would sign.

    Parameters
    ----------
    decision : Decision
        Whether the run may be used.
    without : tuple of str
        Streams to leave out, if the decision is `Decision.WITHOUT`.
    reason : str
        Why, in words.
    streams : tuple of StreamOutcome
        What it follows from.
    """

    decision: Decision
    without: tuple[str, ...]
    reason: str
    streams: tuple[StreamOutcome, ...]

    def __str__(self) -> str:
        return f"{self.decision} {', '.join(self.without)}" if self.without else str(self.decision)


def sign_off_rules(section: CertificationSection) -> SignOffRules:
    """Rules as configured."""
    return SignOffRules(
        largest_bad_share=section.largest_bad_share,
        least_covered_share=section.least_covered_share,
        largest_left_out_share=section.largest_left_out_share,
        required=section.required,
        signers=frozenset(section.signers),
        faults=section.faults,
    )


def may_sign(user: str, signers: Collection[str]) -> bool:
    """Tell whether a user of the role may sign."""
    return not signers or user in signers


def propose_sign_off(rules: SignOffRules, seconds: Mapping[str, Mapping[Quality, float]]) -> Proposal:
    """Propose a sign-off.

    Parameters
    ----------
    rules : SignOffRules
        What a good run is.
    seconds : mapping of str to mapping of Quality to float
        For how long each stream had each flag, amendments counted in, s; time without window is Null.

    Returns
    -------
    Proposal
        With its reason. It depends on nothing but the arguments.
    """
    streams = tuple(_judge(rules, stream, times) for stream, times in seconds.items())
    failed = [outcome for outcome in streams if not outcome.is_good]
    left_out = tuple(outcome.stream for outcome in failed)
    must = [one for one in failed if any(fnmatchcase(one.stream, pattern) for pattern in rules.required)]
    if must:
        return Proposal(Decision.BAD, (), f"required: {_list(must)}", streams)
    if not failed:
        kept = format_count(len(streams), "stream keeps", "streams keep")
        return Proposal(Decision.GOOD, (), f"{kept} the rules", streams)
    if len(failed) == len(streams):
        return Proposal(Decision.BAD, (), f"no stream is good: {_list(failed)}", streams)
    if len(failed) > rules.largest_left_out_share * len(streams):
        most = f"more than {_percent(rules.largest_left_out_share)}"
        verb = "is" if len(failed) == 1 else "are"
        reason = f"{len(failed)} of {len(streams)} streams {verb} not good, {most}: {_list(failed)}"
        return Proposal(Decision.BAD, (), reason, streams)
    return Proposal(Decision.WITHOUT, left_out, _list(failed), streams)


def _judge(rules: SignOffRules, stream: str, seconds: Mapping[Quality, float]) -> StreamOutcome:
    total = sum(seconds.values())
    shares = {quality: seconds.get(quality, 0.0) / total if total else 0.0 for quality in Quality}
    outcome = StreamOutcome(stream, shares, is_good=True, reason="")
    covered, bad = outcome.covered_share, outcome.bad_share
    reasons = []
    if bad is None:
        reasons.append("nothing is known of it")
    elif covered < rules.least_covered_share - _ROUNDING:
        reasons.append(
            f"known for {_percent(covered)} of the run, less than {_percent(rules.least_covered_share)}"
        )
    if bad is not None and bad > rules.largest_bad_share + _ROUNDING:
        reasons.append(
            f"Bad for {_percent(bad)} of the known time, more than {_percent(rules.largest_bad_share)}"
        )
    return StreamOutcome(stream, shares, is_good=not reasons, reason="; ".join(reasons))


def _list(outcomes: Sequence[StreamOutcome]) -> str:
    return format_names([f"{one.stream} ({one.reason})" for one in outcomes])


def _percent(share: float) -> str:
    return f"{100.0 * share:.4g} %"
