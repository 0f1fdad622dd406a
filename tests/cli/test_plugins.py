"""Statistics and collectors of others: packages installed by pip, checked, built, run, shown on the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import BundleError, DqmError, InputError, PluginError
from dqm.reference import Evaluator, Recipe, StoredBundle, ToySource, calibrate, create_bundle
from dqm.reference.statistic import find_statistic
from dqm.service.collector.sources import checked_batches, open_source
from dqm.service.offline.plugin_check import Level, check_plugin
from dqm.stream import Sender
from tests.faults.site import Site
from tests.packages import install, write_examples, write_project
from tests.service.small import FEATURES, N_WINDOW, healthy_events, window_of, write_csv
from tests.waiting import wait_until

from .conftest import Told
from .program import start_dqm

Dqm = Callable[..., Told]

BAD_STATISTICS = """
import os, time
import numpy as np
from types import SimpleNamespace

class Base:
    def __init__(self, reference): pass

class Deaf(Base): pass
class Greedy(Base):
    def evaluate(self, data, power): return 1.0
class Attribute(Base):
    evaluate = 3.0
class NoReference:
    def evaluate(self, data): return 1.0
class Raising(Base):
    def evaluate(self, data): raise ValueError("no such\\nvalue")
class RaisingAtOnce(Base):
    def __init__(self, reference): raise KeyError("x")
class Nan(Base):
    def evaluate(self, data): return np.nan
class Infinite(Base):
    def evaluate(self, data): return SimpleNamespace(t=np.inf)
class Many(Base):
    def evaluate(self, data): return np.zeros(len(data))
class Silent(Base):
    def evaluate(self, data): pass
class Short(Base):
    def evaluate(self, data): return float(data.mean())
    def evaluate_many(self, windows): return [1.0]
class Drawn(Base):
    def evaluate(self, data): return float(data.mean())
    def evaluate_drawn(self, pool, rows): return [float(pool[one].mean()) for one in rows]
class Dropping(Drawn):
    def evaluate_drawn(self, pool, rows): return [1.0]
class Needy(Base):
    def __init__(self, reference, *, power): pass
    def evaluate(self, data): return 1.0
class Tuned(Base):
    @classmethod
    def tune(cls, events): return {"power": object()}
    def evaluate(self, data): return 1.0
class Counted(Base):
    def __init__(self, reference, *, counts=None): pass
    def evaluate(self, data): return 1.0
class Moody(Base):
    def evaluate(self, data):
        mood = round(data[0, 0])
        if mood == 100: raise ValueError("bad mood")
        if mood == 200: time.sleep(3600)
        if mood == 300: return np.nan
        return float(abs(data.mean()))
class Hanging(Base):
    def evaluate(self, data): time.sleep(3600)
class Deadly(Base):
    def evaluate(self, data): os._exit(7)
class Fickle(Base):
    def evaluate(self, data): return np.random.default_rng().random()
class Plain(Base):
    def __init__(self, reference, *, power=2, name="a", parts=(1.0, 2.0), helper=None): self.power = power
    def evaluate(self, data): return np.float32(abs(data.mean()) ** self.power)
class Mapless(Base):
    def __init__(self, reference): self.n = len(reference)
    def evaluate(self, data):
        n = 3 if round(data[0, 0]) == 100 else self.n
        t, ratios, weights = float(abs(data.mean())), np.zeros(n), np.ones(self.n)
        if round(data[0, 0]) == 200: return Slow(t, weights)
        return SimpleNamespace(t=t, log_ratio_reference=ratios, reference_weights=weights)
class Seldom(Mapless):
    def evaluate(self, data):
        t = float(abs(data.mean()))
        if round(data[0, 0]) != 100: return t
        return SimpleNamespace(t=t, log_ratio_reference=np.zeros(self.n), reference_weights=np.ones(self.n))
class Slow:
    def __init__(self, t, weights): self.t, self.reference_weights = t, weights
    @property
    def log_ratio_reference(self): time.sleep(3600)
class WrongLength(Base):
    def evaluate(self, data):
        return SimpleNamespace(t=1.0, log_ratio_reference=np.zeros(3), reference_weights=np.ones(400))
class Differing(Drawn):
    def evaluate_drawn(self, pool, rows): return [1.0 + pool[one].mean() for one in rows]
class Constant(Base):
    def evaluate(self, data): return 0.0
class Lost(Base):
    def evaluate(self, data): return SimpleNamespace(t=np.nan, converged=False)
class Spoiling(Base):
    def __init__(self, reference): self.reference = reference
    def evaluate(self, data):
        self.reference[0, 0] = 7.0
        return float(abs(data.mean()))
class Interrupted(Base):
    def evaluate(self, data): raise KeyboardInterrupt
class Resized(Drawn):
    def at(self, n_expected): return Twice()
class Twice:
    def evaluate(self, data): return 2.0 * data.mean()
function = 3
"""

BAD_COLLECTORS = """
import numpy as np
from dqm.events import EventBatch, Origin
from pydantic import BaseModel

class Base:
    origin = Origin.LIVE
    def __iter__(self): yield EventBatch("1", ("a", "b"), np.zeros((3, 2)))

class Good(Base): pass
class NoOrigin:
    def __iter__(self): yield 1
class OriginText(Base):
    origin = "live"
class NoIteration:
    origin = Origin.LIVE
class WrongOptions(Base):
    Options = dict
class ClassAlone(Base):
    class Options(BaseModel): pass
class HalfResumable(Base):
    def open(self, is_stopped): return ""
    def counts(self): return {}
class Dicts(Base):
    def __iter__(self): yield {"a": 1.0}
class WrongShape(Base):
    def __iter__(self): yield EventBatch("1", ("a",), np.zeros((3, 2)))
class Integers(Base):
    def __iter__(self): yield EventBatch("1", ("a", "b"), np.zeros((3, 2), dtype=int))
class Backwards(Base):
    def __iter__(self): yield EventBatch("1", ("a", "b"), np.zeros((2, 2)), times=np.array([2.0, 1.0]))
class Failing(Base):
    def __iter__(self):
        yield EventBatch("1", ("a", "b"), np.zeros((3, 2)))
        raise OSError("cable")
class Holes(Base):
    def __iter__(self):
        yield EventBatch("1", ("a", "b"), np.array([[1.0, np.nan], [np.nan, np.nan], [1.0, 2.0]]))
    def counts(self): return {"left": 3}
class Miscounting(Base):
    def counts(self): return 5
class Infinite(Base):
    def __iter__(self): yield EventBatch("1", ("a", "b"), np.array([[1.0, np.inf]]))
class Silent(Base):
    def __iter__(self): yield EventBatch("1", ("a", "b"), np.zeros((0, 2)))
"""

CLASSES = (
    "Deaf", "Greedy", "Attribute", "NoReference", "Raising", "RaisingAtOnce", "Nan", "Infinite", "Many",
    "Silent", "Short", "Drawn", "Dropping", "Needy", "Tuned", "Counted", "Moody", "Hanging", "Deadly",
    "Fickle", "Plain", "Mapless", "WrongLength", "Differing", "Constant", "Lost", "Spoiling", "Interrupted",
    "Resized", "Seldom",
)  # fmt: skip
SOURCES = (
    "Good", "NoOrigin", "OriginText", "NoIteration", "WrongOptions", "ClassAlone", "HalfResumable", "Dicts",
    "WrongShape", "Integers", "Backwards", "Failing", "Holes", "Miscounting", "Infinite", "Silent",
)  # fmt: skip


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the examples of the documentation and the bad ones."""
    folder = tmp_path_factory.mktemp("packages")
    points = {name.lower(): name for name in CLASSES}
    bad = write_project(
        folder, "dqm-bad", BAD_STATISTICS, "statistics",
        **points, number="function", gone="Gone", twice="Plain",
    )  # fmt: skip
    sources = {name.lower() + ("-source" if name in CLASSES else ""): name for name in SOURCES}
    other = write_project(
        folder, "dqm-bad-sources", BAD_COLLECTORS, "collectors", **sources,
    )  # fmt: skip
    second = write_project(folder, "dqm-second", "class Other: pass", "statistics", twice="Other")
    examples = write_examples(folder / "examples")
    assert [path.name for path in examples] == ["dqm-adc", "dqm-neighbours"]
    return install(folder / "site", bad, other, second, *examples)


@pytest.fixture
def _plugins(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])


def recipe_of(statistic: str, **settings: object) -> Recipe:
    return Recipe(FEATURES, 400, N_WINDOW, centers=40, statistic=statistic, settings=settings)


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deaf", r"'deaf' has no 'evaluate', which must be a method evaluate\(data\): Test a window"),
        (
            "greedy",
            r"'greedy' has a 'evaluate' that cannot be called as it must be \(missing a required",
        ),
        ("attribute", r"'attribute' has a 'evaluate' that cannot be .* \(it is 3.0, no function\)"),
        ("noreference", r"the statistic 'noreference' cannot be called as CLASS\(reference, ...\): too many"),
        ("raising", r"the statistic 'raising' raised ValueError: no such value \(dqm_bad.py, line 17\)"),
        ("raisingatonce", r"the statistic 'raisingatonce' raised KeyError: 'x' \(dqm_bad.py, line 19\)"),
        ("nan", r"the statistic 'nan' gave t = nan for a window of 60 rows. It must give a finite number"),
        ("infinite", r"the statistic 'infinite' gave t = inf"),
        ("many", r"the statistic 'many' gave an object of type ndarray for a window. It must give a number"),
        (
            "wronglength",
            r"'wronglength' gave 'log_ratio_reference' of shape \(3,\). It must have shape \(400,\)",
        ),
        ("silent", r"the statistic 'silent' gave an object of type NoneType"),
        ("tuned", r"'tune' of the statistic 'tuned' gave .*It must give a dict of settings"),
        ("spoiling", r"the statistic 'spoiling' changed the reference in place. Let it work on a copy"),
        ("number", r"the statistic 'number' cannot be called .*: it is 3, no function"),
        ("gone", r"the statistic 'gone' \(dqm_bad:Gone of dqm-bad 1.0\) cannot be loaded: it raised Attrib"),
        ("twice", r"'twice' is installed by several packages: dqm_bad:Plain of dqm-bad 1.0, dqm_second:Oth"),
    ],
)
def test_a_bad_statistic_is_refused_with_its_name_and_what_is_wrong(
    name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=words):
        create_bundle(healthy_events(2000, 1), recipe_of(name), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("_plugins")
def test_a_statistic_that_loses_windows_is_refused_at_calibration(tmp_path: Path) -> None:
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("short"), tmp_path / "b")
    with pytest.raises(PluginError, match="'short' gave 1 outcome for 25 windows in 'evaluate_many'"):
        calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("dropping"), tmp_path / "c")
    with pytest.raises(PluginError, match="'dropping' gave 1 outcome for 100 windows in 'evaluate_drawn'"):
        calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (
            "differing",
            PluginError,
            r"'differing' gave t = \S+ for a window alone and t = \S+ for the s",
        ),
        ("fickle", PluginError, "for the same window among 25. Let 'evaluate', 'evaluate_many' and"),
        (
            "constant",
            PluginError,
            "'constant' gave t = 0 for each of 100 toys of 60 events: it tells no",
        ),
        ("lost", BundleError, "100 of 100 toys of 60 events did not converge .* Choose other settings or"),
    ],
)
def test_a_statistic_with_which_p_would_be_wrong_is_refused_at_calibration(
    name: str, error: type[DqmError], words: str, tmp_path: Path
) -> None:
    bundle = create_bundle(healthy_events(2000, 1), recipe_of(name), tmp_path / "b")
    with pytest.raises(error, match=words):
        calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    assert not list(
        bundle.path.glob("toys-*")
    )  # a statistic that is mended shall not find what it gave before


@pytest.mark.usefixtures("_plugins")
def test_a_statistic_tests_toys_by_their_places_in_the_pool(tmp_path: Path) -> None:
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("drawn"), tmp_path / "b")
    bundle = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    (entry,) = bundle.manifest.null
    source = ToySource(bundle, entry.kind)
    assert bundle.toys(entry)[:, 0].tolist() == [source.throw(1, k).x.mean() for k in range(100)]


@pytest.mark.usefixtures("_plugins")
def test_settings_have_the_names_and_the_defaults_of_the_statistic(tmp_path: Path) -> None:
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("plain", power=3), tmp_path / "b")
    assert bundle.manifest.settings == {"power": 3, "name": "a", "parts": (1.0, 2.0)}
    calibrated = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    assert calibrated.toys(calibrated.manifest.null[0]).shape == (100, 2)
    wrong = [
        (
            recipe_of("plain", powr=3),
            "'plain' has no setting 'powr'. Its settings are: power, name, parts, helper",
        ),
        (recipe_of("plain", helper={}), "the setting 'helper' of the statistic 'plain' is {}"),
        (
            recipe_of("needy"),
            "'needy' needs the setting 'power', which has no usual value. Give it: --set",
        ),
        (recipe_of("several", powr=3), "no setting 'powr'. Its settings are: rule, width, penalty"),
        (recipe_of("several", feature_width=(9.0,)), "'several' chooses its setting 'feature_width' itself"),
    ]
    for recipe, words in wrong:
        with pytest.raises(InputError, match=words):
            create_bundle(healthy_events(2000, 1), recipe, tmp_path / "c")


@pytest.mark.usefixtures("_plugins")
def test_what_a_statistic_must_not_ignore_is_refused(tmp_path: Path) -> None:
    from dqm.reference import add_normalisation

    x = healthy_events(400, 1)
    with pytest.raises(InputError, match="the statistic 'plain' takes no rows that stand for several events"):
        find_statistic("plain").make(x, {}, n_expected=60.0, counts=np.ones(400))
    with pytest.raises(PluginError, match="takes 'counts', but its 'evaluate' has no argument 'weights'"):
        find_statistic("counted").make(x, {}, n_expected=60.0, counts=np.ones(400))
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("plain"), tmp_path / "b")
    with pytest.raises(InputError, match="the statistic 'plain' takes no nuisance parameters"):
        add_normalisation(bundle, "rate", 0.1)


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "noorigin",
            "the collector 'noorigin' has no 'origin', which must be dqm.events.Origin.LIVE, R",
        ),
        ("origintext", "the collector 'origintext' has 'live' as 'origin', which must be dqm.events.Origin"),
        (
            "noiteration",
            r"'noiteration' has no '__iter__', which must be a method __iter__\(\): Yield",
        ),
        (
            "wrongoptions",
            "'wrongoptions' has <class 'dict'> as 'Options', which must be a class: the",
        ),
        ("classalone", r"the collector 'classalone' cannot be called as CLASS\(options\)"),
        ("halfresumable", "'halfresumable' has no 'seek', .*; it has no 'commit', .*; it has no 'close', "),
        (
            "dicts",
            "the collector Dicts yielded an object of type dict, which must be a dqm.events.EventB",
        ),
        (
            "wrongshape",
            r"yielded a batch whose x is float64 of shape \(3, 2\), which must be .*_events, 1\)",
        ),
        ("integers", r"yielded a batch whose x is int64 of shape \(3, 2\), which must be float64"),
        ("backwards", "yielded a batch whose times are not finite and ascending"),
        ("failing", r"the collector Failing raised OSError: cable \(dqm_bad_sources.py, line 35\)"),
    ],
)
def test_a_bad_collector_is_refused_with_its_name_and_what_is_wrong(name: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        list(checked_batches(open_source(name, {})))


@pytest.mark.usefixtures("_plugins")
def test_a_collector_without_options_needs_none() -> None:
    (batch,) = checked_batches(open_source("good", {}))
    assert batch.n_events == 3
    with pytest.raises(DqmError, match="unknown key"):
        open_source("good", {"rate": 1})


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        pytest.param("hanging", 4.0, "the next step took longer than 4 s: it hangs", marks=pytest.mark.slow),
        ("deadly", 60.0, "it ended its process with exit code 7"),
        pytest.param("fickle", 60.0, "at the second time", marks=pytest.mark.slow),
        pytest.param("interrupted", 60.0, "'interrupted' raised KeyboardInterrupt", marks=pytest.mark.slow),
        pytest.param("constant", 60.0, "it tells no window from another", marks=pytest.mark.slow),
        pytest.param("resized", 60.0, "by the test that 'at' gives for its size", marks=pytest.mark.slow),
    ],
)
def test_the_check_survives_what_a_plugin_does(
    name: str,
    seconds: float,
    words: str,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    wrong = [found.text for found in check_plugin(name, {}, seconds) if found.level is Level.WRONG]
    assert len(wrong) == 1
    assert words in wrong[0]


@pytest.mark.usefixtures("_plugins")
def test_a_window_with_which_a_statistic_fails_is_null_in_a_comparison(dqm: Dqm, tmp_path: Path) -> None:
    bundle = create_bundle(healthy_events(2000, 1), recipe_of("moody"), tmp_path / "m.dqmref")
    calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    x = healthy_events(4 * N_WINDOW, 100)
    x[N_WINDOW, 0], x[2 * N_WINDOW, 0] = 100.0, 300.0
    file = write_csv(tmp_path / "run.csv", x)
    told = dqm("compare", bundle.path, file, "--window", N_WINDOW, "--json")
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert (told.code, [row["quality"] for row in rows]) == (0, ["Good", "Null", "Null", "Good"]), told.err
    assert rows[1]["reason"].startswith("the test failed: the statistic 'moody' raised ValueError: bad mood")
    assert rows[2]["reason"].startswith("the test failed: the statistic 'moody' gave t = nan")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adc", "untried not tried: collector adc: inputs: must be given"),
        pytest.param(
            "channels",
            "untried not tried: it refuses the generated events of two features: ",
            marks=pytest.mark.slow,  # its process loads torch
        ),
    ],
)
def test_what_was_not_tried_is_not_called_right(
    dqm: Dqm, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    told = dqm("check", "--plugin", name)
    assert (told.code, "no mistakes found" in told.out) == (1, False)
    assert words in told.err
    assert told.err.endswith(f"{name}: not tried, so nothing is known of it\n")


def test_the_check_counts_nan_of_a_collector_and_asks_for_its_counts(
    dqm: Dqm, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    told = dqm("check", "--plugin", "holes")
    assert told.code == 0, told.err
    assert "note  2 of 3 events have NaN. The daemon refuses a window with NaN, unless its stream" in told.out
    assert "ok    'counts' gives left 3" in told.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("miscounting", "wrong the collector Miscounting gave 5 in 'counts' (dqm_bad_sources.py, line"),
        ("infinite-source", "wrong batch 1: infinite values in 1 of 1 row"),
        ("silent-source", "note  its source has no events in 1 batch"),
    ],
)
def test_the_check_says_what_a_collector_does_wrong(
    dqm: Dqm, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    told = dqm("check", "--plugin", name)
    assert words in told.out + told.err
    assert told.code == int(words.startswith("wrong"))


def write_pulses(path: Path, n: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    charge, width = rng.gamma(4.0, 1.0, n), rng.normal(20.0, 2.0, n)
    rows = zip(1.7e9 + np.arange(n) * 0.01, charge, width, strict=True)
    path.write_text("".join(f"3 {t:.2f} {q:.4f} {w:.4f}\n" for t, q, w in rows))
    return path


@pytest.mark.slow
def test_the_examples_go_from_the_check_to_the_page(
    dqm: Dqm, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    write_pulses(tmp_path / "good.txt", 3000, 1)
    write_pulses(tmp_path / "run.txt", 400, 2)
    told = dqm("check", "--plugin", "adc", "--set", 'inputs=["run.txt"]').out
    assert "ok    read 400 events in 1 batch; features: charge, width" in told
    told = dqm("check", "--plugin", "neighbours", "--set", "neighbours=7").out
    assert "settings: neighbours 7, spread deviation" in told
    assert "note  'evaluate_many' left out: windows are tested one by one" in told
    assert "neighbours: no mistakes found" in told
    assert dqm("extract", "adc", "good.txt", "-o", "good.parquet").code == 0
    build = ("reference", "build", "good.parquet", "--window", 100, "--statistic", "neighbours")
    features = ("--features", "charge,width", "--set")
    refused = dqm(*build, "-o", "wrong", *features, "neighbours=0")
    assert (refused.code, "neighbours is 0. Give 1 to " in refused.err) == (2, True)
    assert dqm(*build, "-o", "n.dqmref", *features, "neighbours=7").code == 0
    assert dqm("reference", "calibrate", "n.dqmref", "--toys", 100, "--processes", 1).code == 0
    site = Site(tmp_path, tmp_path / "n.dqmref", "workers = 1", streams=("3",), **variables)
    with running(site):
        (tmp_path / "adc.toml").write_text(
            f'[collector]\nname = "adc"\nrun = 5\nconnect = "{site.connect}"\n'
            '[window]\nevents = 100\n[options]\ninputs = ["run.txt"]\n'
        )
        log = tmp_path / "adc.log"
        collecting = start_dqm("collect", "adc.toml", cwd=tmp_path, log=log, **variables)
        assert collecting.wait(60.0) == 0, log.read_text()
        wait_until(lambda: len(site.run_of(5)) == 4, "four verdicts")
        assert all(verdict.result.p is not None for verdict in site.run_of(5))
        bundle = site.get("/api/v1/streams/3/windows/5/0").json()["bundle"]
        assert bundle["statistic"] == "neighbours"
        assert bundle["settings"] == {"neighbours": 7, "spread": "deviation"}
        assert "neighbours: neighbours 7, spread deviation" in site.get("/streams/3").text


def calibrated(statistic: str, folder: Path) -> StoredBundle:
    """A bundle of a statistic, with a null table."""
    bundle = create_bundle(healthy_events(2000, 1), recipe_of(statistic), folder / "m.dqmref")
    return calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")


@pytest.mark.usefixtures("_plugins")
def test_a_statistic_may_learn_a_ratio_of_few_windows(tmp_path: Path) -> None:
    evaluator = Evaluator(calibrated("seldom", tmp_path))
    x = healthy_events(N_WINDOW, 100)
    assert evaluator.evaluate(window_of(x)).find_explanation() is None
    x[0, 0] = 100.0
    found = evaluator.evaluate(window_of(x)).find_explanation()
    assert found is not None
    assert all(np.isfinite(share) for _, share in found.ranking)


def send_moods(site: Site, *moods: float) -> None:
    """Send a window for each mood, its first number, and wait for the answers."""
    with Sender(site.connect, 100) as sender:
        for seq, mood in enumerate(moods):
            x = healthy_events(N_WINDOW, 100 + seq)
            x[0, 0] = mood
            sender.send(window_of(x, seq=seq))
        assert sender.confirm(60.0)


@contextmanager
def running(site: Site) -> Iterator[None]:
    try:
        site.start()
        yield
    finally:
        site.close()


@pytest.mark.slow
def test_a_statistic_that_raises_gives_nan_or_hangs_is_null_and_the_daemon_goes_on(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    bundle = calibrated("moody", tmp_path)
    site = Site(
        tmp_path, bundle.path, "workers = 1\nlongest_test_seconds = 2", streams=("chamber-1",), **variables
    )
    with running(site):
        send_moods(site, 0.0, 100.0, 300.0, 200.0, 0.0)
        told = {v.window.seq: f"{v.quality.value} {v.reason}".strip() for v in site.run_of(7)}
    assert [told[seq].partition(" ")[0] for seq in range(5)] == ["Good", "Null", "Null", "Null", "Good"]
    assert told[1].startswith(
        "Null the test failed: the statistic 'moody' raised ValueError: bad mood (dqm_bad"
    )
    assert told[2].startswith(
        "Null the test failed: the statistic 'moody' gave t = nan for a window of 60 rows"
    )
    assert told[3] == "Null not tested: its test took longer than 2 s (statistic 'moody')"


@pytest.mark.long  # it starts a daemon to see it end
def test_a_daemon_whose_statistic_is_not_installed_does_not_start(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.syspath_prepend(variables["PYTHONPATH"])
        bundle = calibrated("plain", tmp_path)
    site = Site(tmp_path, bundle.path, "workers = 1", streams=("chamber-1",))
    site.launch()
    try:
        assert site.wait_for_end() == 2
    finally:
        site.close()
    assert "unknown statistic 'plain'" in site.log.read_text()


@pytest.mark.slow
def test_a_statistic_whose_maps_fail_takes_no_verdict_away(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(variables["PYTHONPATH"])
    bundle = calibrated("mapless", tmp_path)
    site = Site(
        tmp_path, bundle.path, "workers = 1\nlongest_test_seconds = 2", streams=("chamber-1",), **variables
    )
    with running(site):
        send_moods(site, 0.0, 100.0, 200.0, 0.0)
        found = {verdict.window.seq: verdict for verdict in site.run_of(7)}
        page = site.get("/windows/chamber-1/7/1").text
    assert [found[seq].quality.value for seq in range(4)] == ["Good", "Bad", "Bad", "Good"]
    assert all(found[seq].reason.startswith("differs from the reference: p") for seq in (1, 2))
    hung = "no maps: its test took longer than 2 s"
    assert [remark for remark in found[2].result.remarks if remark.startswith("no maps")] == [hung]
    told = (
        "no maps: the statistic 'mapless' gave 'log_ratio_reference' of shape (3,). It must have shape (400,)"
    )
    assert [remark for remark in found[1].result.remarks if remark.startswith("no maps")] == [
        f"{told}, one finite number for each reference event"
    ]
    assert f"N{told[1:]}" in unescape(page)
