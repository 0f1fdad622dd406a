"""The lines of a certificate: from what was measured to a light, what it means, and what to do.

A light follows from numbers alone. Green: use the bundle. Amber: it may be used, but users must know the
remark. Red: results of the monitor with this bundle cannot be trusted.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from dqm.errors import InputError, format_count, format_names
from dqm.events import FloatArray
from dqm.nplm import FeatureKind
from dqm.reference.certificate import LATER_RUN, LONGEST_TEXT, CertificateLine, Light
from dqm.reference.features import ChosenKind, choose_kinds, describe_features, describe_sample
from dqm.reference.later_runs import LaterOutcome
from dqm.reference.manifest import NullTableEntry
from dqm.reference.null import pool_offset
from dqm.reference.run_blocks import BlockWindows
from dqm.reference.run_changes import RunChange
from dqm.reference.splits import LARGEST_OFFSET, TOLERATED_OFFSET, uncertainty_of
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.validation import SIGNIFICANT, Validation

__all__ = [
    "EXTRAPOLATION",
    "extrapolation_line",
    "feature_line",
    "later_line",
    "nuisance_line",
    "run_line",
    "split_line",
    "support_line",
    "table_line",
    "uniformity_line",
    "unmeasured_line",
]

NOMINAL = 0.05
"""p below which healthy windows are counted; if all is well, their share has the same value."""

TOO_MANY = 1.5
"""A share that is surely larger than nominal by this factor is red."""

DOUBTFUL = 0.01
"""Probability, if all is well, below which a line is amber."""

CERTAIN = 1e-4
"""Probability, if all is well, below which a line is red."""

FEWEST_WINDOWS = 20
"""Fewest windows that say anything about a share of 5 %."""

MEASURED_OFFSET = 0.25
"""As `TOLERATED_OFFSET`, for an offset that is measured with an error of about 0.1."""

MANY_OUTSIDE = 3.0
"""Events of a healthy window where the reference has none; above this number a remark is made."""

FEW_EXTRAPOLATED = 0.1
"""Share of the p-values below the threshold that are read from the fitted tail; red is where all are."""

N_WAYS = 3
"""Ways in which a run is found to change: by one part, by all windows together, by the events themselves."""

SMALL_CHANGE = 0.5
"""Distance of parts of the run, in units of what a window has by chance, below which it does not matter."""

LARGE_CHANGE = 1.0
"""A surely larger distance is red."""

EXTRAPOLATION = "extrapolation"
"""Name of the line that says whether the toys are enough."""

MOST_FINDINGS = 6
"""Most remarks on features that are written."""

MOST_LETTERS = 150
"""Letters of each."""

Words = tuple[str, str]
"""What a light means, and what to do."""


def unmeasured_line(error: InputError, *, takes_later: bool) -> CertificateLine:
    """Say that the run is too short to test its own windows; counted rows take no later runs."""
    words = (
        "nobody knows how many healthy windows of the next run will have small p",
        f"{error.fix}{'. Or give later good runs with --later' if takes_later else ''}",
    )
    return _line("uniformity", Light.AMBER, 0.0, f"not measured: {error.what}", amber=words)


def uniformity_line(found: BlockWindows) -> CertificateLine:
    """Judge p of windows that are in neither the reference nor the toys."""
    p = found.p.ravel()
    light, text = _judge_share(p)
    ks = float(stats.kstest(p, "uniform").pvalue)
    if ks < DOUBTFUL:
        light = Light.worst([light, Light.AMBER])
    told = f"{text}, of those that are in neither the reference nor the toys; KS p of uniform p: {ks:.2g}"
    few = light is Light.GREEN and len(p) < FEWEST_WINDOWS
    doubt = (
        "p may be off: healthy windows differ from toys more than by chance",
        "Build the bundle from a longer run; see the stability over the run",
    )
    too_few = (
        f"{format_count(len(p), 'window')} are too few to tell whether p is right",
        f"Take a run of {FEWEST_WINDOWS} windows or more beside the reference, or smaller windows",
    )
    return _line(
        "uniformity",
        Light.AMBER if few else light,
        float((p < NOMINAL).mean()),
        told,
        green=f"p of healthy windows is what it claims, as far as {len(p)} windows of this run can tell",
        amber=too_few if few else doubt,
        red=(
            "healthy windows of this run look faulty: expect many false alarms",
            "Look for a time when the detector was different; build the bundle from a longer, steady run",
        ),
    )


def run_line(bundle: StoredBundle, found: BlockWindows, change: RunChange | None) -> CertificateLine:
    """Compare each part of the run with all others: a run that changes, or two runs in one file.

    Windows of a steady run are like their toys. Only larger z departs: a part with smaller z is in the middle
    of the others. `change` is what the events themselves show; None if their order is not known.
    """
    n_blocks = len(found.p)
    pulls = _pulls(bundle, found)
    together = float(pulls.sum() / np.sqrt(n_blocks))
    worst = int(pulls.argmax())
    chance_of_part = N_WAYS * n_blocks * float(special.ndtr(-pulls[worst]))
    chance_of_all = N_WAYS * float(special.ndtr(-together))
    chance = min(chance_of_part, chance_of_all)
    light = _by_chance(chance)
    departs = light is not Light.GREEN
    told = (
        f"windows of part {worst + 1} of {n_blocks} depart most from the rest, by {pulls[worst]:+.1f} sigma; "
        f"those of all parts together by {together:+.1f} sigma"
    )
    place = f"part {worst + 1} of {n_blocks}" if chance_of_part < chance_of_all else "all parts"
    if change is not None:
        size, chance_of_change = change.in_window(found.n_events), N_WAYS * change.chance
        light = Light.worst([light, _by_effect(chance_of_change, size)])
        if chance_of_change < DOUBTFUL:
            place = change.place
            told += f"; {change}, by {size:.1f} times what a window differs by chance"
            chance = min(chance, chance_of_change)
    is_unordered = not found.plan.is_ordered
    if is_unordered:
        told += "; the order in time is not known, so these parts are random"
    look = f"Look at {place} of the run; leave out what is different, or take another run"
    doubt = f"the run may have changed: {'windows of some parts depart' if departs else 'a feature moves'}"
    rebuild = (
        "all parts look alike, but they are not parts in time",
        "Build the bundle again with this dqm, from files in the order of time",
    )
    steady = light is Light.GREEN
    return _line(
        "stability over the run",
        Light.worst([light, Light.AMBER]) if is_unordered else light,
        float(pulls[worst]),
        f"{told} (chance {min(1.0, chance):.2g})",
        green="all parts of the run look alike",
        amber=rebuild if steady else (doubt, look),
        red=("the run is not one run: the detector changed, or files of several runs were mixed", look),
    )


def _pulls(bundle: StoredBundle, found: BlockWindows) -> FloatArray:
    """Give the mean z of the windows of each part over its error; a steady run has 0 +- 1."""
    n_blocks, n_windows = found.p.shape
    offset = 0.0
    if not bundle.manifest.is_of_channels:  # a part is compared with a finite number of events
        n_reference = bundle.manifest.n_reference
        n_others = (n_reference + bundle.manifest.n_pool) * (1.0 - 1.0 / n_blocks)
        offset = pool_offset(found.n_events, max(1, round(n_others - n_reference)), n_reference)
    pulls: FloatArray = found.z.mean(axis=1) / np.sqrt(
        1.0 / n_windows + 1.0 / found.toy_z[0].size + offset**2
    )
    return pulls


def _by_effect(chance: float, size: float) -> Light:
    """Judge a change by its chance and its size; what no window can show is green, however sure it is."""
    if size < SMALL_CHANGE:
        return Light.GREEN
    light = _by_chance(chance)
    return Light.AMBER if light is Light.RED and size < LARGE_CHANGE else light


def split_line(bundle: StoredBundle, entry: NullTableEntry, found: BlockWindows) -> CertificateLine:
    """Measure how much p depends on which events became the reference."""
    toy_z = found.toy_z.reshape(-1, found.toy_z.shape[2])
    n_each = toy_z.shape[1]
    between = n_each * toy_z.mean(axis=1).var(ddof=1)
    within = toy_z.var(axis=1, ddof=1).mean()
    measured = float(np.sqrt(max(0.0, (between - within) / n_each)))
    computed, source = uncertainty_of(bundle.manifest, entry)
    # a table of the bundle's own reference knows this reference: only its pool is in doubt
    number = max(measured, computed) if entry.per_split else computed
    tolerated = MEASURED_OFFSET if entry.per_split else TOLERATED_OFFSET
    light = Light.GREEN if number <= tolerated else Light.AMBER if number <= LARGEST_OFFSET else Light.RED
    low, high = (float(special.ndtr(special.ndtri(0.01) + shift)) for shift in (-number, number))
    longer = "Take a longer run or smaller windows: 'dqm reference advise' shows what it takes"
    return _line(
        "stability over splits",
        light,
        number,
        f"p uncertain by {computed:.2f} sigma because the {source} is finite; from split to split of the run "
        f"it moves by {measured:.2f} sigma",
        green="another choice of reference events would give nearly the same p",
        amber=(f"p = 0.01 may be anything between {low:.2g} and {high:.2g}", longer),
        red=("p is decided by which events became the reference", longer),
    )


def support_line(bundle: StoredBundle, found: BlockWindows) -> CertificateLine:
    """Count the windows with events where the reference has none."""
    n_reference, n_features = bundle.reference.shape
    expected = 2.0 * n_features * found.n_events / n_reference
    outside = found.n_outside.ravel()
    share = float((outside > 0).mean())
    mean = float(outside.mean())
    chance = float(special.gammainc(max(outside.sum(), 1e-9), expected * outside.size))
    light = Light.AMBER if chance < DOUBTFUL or mean > MANY_OUTSIDE else Light.GREEN
    if chance < CERTAIN and mean > 2.0 * expected:
        light = Light.RED
    return _line(
        "support",
        light,
        share,
        f"{100 * share:.0f} % of the windows have events where the reference has none: {mean:.2g} events a "
        f"window, {expected:.2g} expected by chance",
        green="the reference covers what healthy windows have",
        amber=(
            "many events of healthy windows are unlike all of the reference; there the test knows least",
            "Take a reference of more events",
        ),
        red=(
            "parts of the run lie where the reference has no events",
            "See the stability over the run; take a reference of all conditions of the run",
        ),
    )


def table_line(validation: Validation) -> CertificateLine:
    """Compare new toys with the null table."""
    point = validation.points[0]
    again = "Calibrate again, with more toys and another --seed"
    return _line(
        "null table",
        _by_chance(point.ks_t),
        point.share,
        f"{100 * point.share:.1f} % of {len(point.t)} new toys have p < {SIGNIFICANT:g} "
        f"({100 * point.share_low:.1f} to {100 * point.share_high:.1f} %); KS p against the table: "
        f"{point.ks_t:.2g}",
        green="the table gives new toys the p that they should have",
        amber=("new toys differ from the table more than by chance", again),
        red=("the table does not belong to this test", again),
    )


def nuisance_line(validation: Validation) -> CertificateLine:
    """Judge whether t depends on what may change without being a fault."""
    points = validation.points[1:]
    worst = min(points, key=lambda point: point.ks_t)
    failed = [point for point in validation.failed if point.name]
    frequent = [point for point in points if point.share_low > 2.0 * SIGNIFICANT]
    light = Light.RED if failed else Light.AMBER if frequent else Light.GREEN
    places = ", ".join(f"{point.name} = {point.nu:g}" for point in failed or frequent)
    learn = "Learn the parameter from more events, take a larger reference, or a smaller sigma"
    return _line(
        "nuisance independence",
        light,
        worst.ks_t,
        f"t at {format_count(len(points), 'shifted point')} against the null table: smallest KS p "
        f"{worst.ks_t:.2g}, at {worst.name} = {worst.nu:g} (limit {validation.limit:.2g})",
        green="what may change without being a fault does not change p",
        amber=(f"false alarms are more frequent at {places}", learn),
        red=(f"t depends on what may change without being a fault, at {places}", learn),
    )


def feature_line(bundle: StoredBundle) -> CertificateLine:
    """Say what is unusual in the features."""
    m = bundle.manifest
    events = np.concatenate([bundle.reference, bundle.pool])
    kinds: list[str] = []
    if m.statistic == "several":  # it takes features of every kind
        findings = describe_sample(events, m.features)
        kinds = [str(one) for one in _kinds_of(bundle, events) if one.found]
    else:
        findings = describe_features(events, m.features, m.statistic)
    told = [text[:MOST_LETTERS] for text in (*findings, *kinds)]
    shown = format_names(told, MOST_FINDINGS, separator="; ")
    several = "" if m.statistic == "several" else ", or the test with --statistic several"
    return _line(
        "features",
        Light.AMBER if findings else Light.GREEN,
        float(len(findings)),
        shown or f"nothing unusual in {format_count(len(m.features), 'feature')}",
        green="the features are of the kind that the test treats well",
        amber=(
            "faults in these features may be seen late",
            f"Choose the features of 'dqm reference build'{several}",
        ),
    )


def _kinds_of(bundle: StoredBundle, events: FloatArray) -> list[ChosenKind]:
    """Give the kinds that the test of a bundle has; those that are not found in its events were given."""
    m = bundle.manifest
    stored = m.settings.get("kinds")
    kinds = stored if isinstance(stored, tuple) else ("smooth",) * len(m.features)
    return [
        found
        if str(found.kind) == kind
        else ChosenKind(found.feature, FeatureKind.parse(str(kind)), "is given")
        for found, kind in zip(choose_kinds(events, m.features), kinds, strict=True)
    ]


def extrapolation_line(entry: NullTableEntry, threshold: float) -> CertificateLine:
    """Say how many p at the threshold are read from the tail that is fitted beyond all toys."""
    n_toys = entry.toys.shape[0]
    share = min(1.0, 1.0 / (n_toys + 1) / threshold)
    light = Light.AMBER if share > FEW_EXTRAPOLATED else Light.GREEN
    if share >= 1.0:
        light = Light.RED
    more = f"Run 'dqm reference calibrate' with --toys {round(1.0 / (FEW_EXTRAPOLATED * threshold))} or more"
    return _line(
        EXTRAPOLATION,
        light,
        share,
        f"{100 * share:.2g} % of the p below {threshold:g} are read from the fitted tail, beyond all of "
        f"{n_toys} toys",
        green="p at the threshold is counted, not fitted",
        amber=("a good part of the p below the threshold follows from a fit to the toys", more),
        red=("p at the threshold is a guess of the fit", more),
    )


def later_line(bundle: StoredBundle, entry: NullTableEntry, outcome: LaterOutcome) -> CertificateLine:
    """Judge a good run after that of the reference.

    All its windows are compared with one reference. So they may have a small p together, within the
    uncertainty of the table; more than that is drift.
    """
    p = outcome.p
    light, text = _judge_share(p)
    z = -special.ndtri(np.clip(p - 0.5 / (entry.toys.shape[0] + 1), CERTAIN, 1.0 - CERTAIN))
    offset, _ = uncertainty_of(bundle.manifest, entry)
    pull = float(z.mean() / np.sqrt(1.0 / len(z) + offset**2))
    light = Light.worst([light, _by_chance(float(special.ndtr(-pull)))])
    few = light is Light.GREEN and len(p) < FEWEST_WINDOWS
    told = f"{outcome.name}: {text}; all together {pull:+.1f} sigma"
    if outcome.seen and light is not Light.GREEN:
        told += f"; its farthest window {outcome.seen}"
    renew = "If this run was good, build a reference from later runs, or add to the bundle what changed"
    return _line(
        LATER_RUN,
        Light.AMBER if few else light,
        float((p < NOMINAL).mean()),
        told,
        green="this run looks like that of the reference",
        amber=("the run has too few windows to tell", "Give a longer run")
        if few
        else ("this run may have drifted away from that of the reference", renew),
        red=("this run is unlike that of the reference: it would alarm all the time", renew),
    )


def _judge_share(p: FloatArray) -> tuple[Light, str]:
    """Judge the share of healthy windows with small p, and say it."""
    n = len(p)
    k = int((p < NOMINAL).sum())
    test = stats.binomtest(k, n)
    usual, sure = test.proportion_ci(0.95), test.proportion_ci(1.0 - 2.0 * CERTAIN)
    light = Light.AMBER if stats.binom.sf(k - 1, n, NOMINAL) < DOUBTFUL else Light.GREEN
    if sure.low > TOO_MANY * NOMINAL:
        light = Light.RED
    interval = f"{100 * usual.low:.1f} to {100 * usual.high:.1f} %"
    return light, f"{100 * k / n:.1f} % of {format_count(n, 'window')} have p < {NOMINAL:g} ({interval})"


def _by_chance(chance: float) -> Light:
    return Light.RED if chance < CERTAIN else Light.AMBER if chance < DOUBTFUL else Light.GREEN


def _line(
    name: str,
    light: Light,
    number: float,
    found: str,
    *,
    green: str = "",
    amber: Words = ("", ""),
    red: Words = ("", ""),
) -> CertificateLine:
    meaning, action = {Light.GREEN: (green, ""), Light.AMBER: amber, Light.RED: red}[light]
    return CertificateLine(
        name=name,
        light=light,
        number=number,
        found=_shorten(found),
        meaning=_shorten(meaning),
        action=_shorten(action),
    )


def _shorten(text: str) -> str:
    """Cut off what is longer than a line may be: names of files and features come from outside."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
