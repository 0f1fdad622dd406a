"""Files that grow and directories of them: every row once, and the same again after a restart."""

from __future__ import annotations

import fcntl
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from structlog.testing import capture_logs

from dqm.errors import ConfigError, FileError
from dqm.events import EventBatch
from dqm_collectors.files import FilesCollector
from tests.collectors.inputs.trees import events

pytestmark = pytest.mark.usefixtures("root_here")

NAMES = r"run(?P<run>\d+)_(?P<run_type>[a-z]+)\.(?:csv|root|parquet)"


class Story:
    """A collector whose world changes between two looks at the files, one step each time it sleeps."""

    def __init__(self, folder: Path, *steps: Callable[[], object], **options: object) -> None:
        chosen = {
            "inputs": (folder,),
            "state": folder / "state",
            "poll_seconds": 0.2,
            "batch_rows": 10,
            **options,
        }
        self.now = 0.0
        self.steps = iter(steps)
        self.is_over = False
        model = FilesCollector.Options.model_validate(chosen)
        self.collector = FilesCollector(model, clock=lambda: self.now, sleep=self._sleep)
        self.note = self.collector.open(lambda: self.is_over)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        step = next(self.steps, None)
        if step is None:
            self.is_over = True
        else:
            step()

    def tell(self, position: str = "") -> list[EventBatch]:
        if position:
            self.collector.seek(position)
        try:
            return list(self.collector)
        finally:
            self.collector.close()


def values(batches: list[EventBatch]) -> list[float]:
    return [value for batch in batches for value in batch.x[:, 0]]


def nothing() -> None:
    pass


def lines(first: int, n: int) -> str:
    return "".join(f"{k},{k / 2}\n" for k in range(first, first + n))


def append(path: Path, text: str) -> Callable[[], object]:
    def change() -> None:
        with path.open("a") as file:
            file.write(text)

    return change


def tree_writer(path: Path) -> tuple[Callable[[int, int], Callable[[], object]], object]:
    file = uproot.recreate(path)
    file.mktree("events", events(0))
    return lambda n, first: lambda: file["events"].extend(events(n, first)), file


def test_a_text_that_grows_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# by Anna\nnum")
    steps = [
        append(path, "ber,half\n0,0\n1,0.5\n2,"),
        append(path, "1\n3"),
        append(path, ",1.5\n# a break\n" + lines(4, 8)),
        nothing,
        append(path, lines(12, 20)),
    ]
    story = Story(tmp_path, *steps)
    batches = story.tell()
    assert values(batches) == list(range(30)), "two rows wait for a whole batch"
    assert [batch.number for batch in batches] == [0, 10, 20]
    assert story.collector.counts()["rows"] == 30


def test_a_tree_that_grows_gives_its_entries_once(tmp_path: Path) -> None:
    write, file = tree_writer(tmp_path / "a.root")
    story = Story(tmp_path, write(7, 0), write(8, 7), nothing, write(30, 15))
    assert values(story.tell()) == list(range(40))
    file.close()


def test_the_rest_of_a_file_comes_when_the_next_one_is_there(tmp_path: Path) -> None:
    header = "number,half\n"
    (tmp_path / "run9_physics.csv").write_text(header + lines(0, 13))
    later = tmp_path / "run10_cosmics.csv"
    steps = [
        append(later, header),
        append(
            tmp_path / "run9_physics.csv", lines(13, 4) + "17,8.5"
        ),  # it still grows, its last line has no end
        nothing,
        nothing,
        append(later, lines(100, 12)),
    ]
    story = Story(tmp_path, *steps, name_pattern=NAMES)
    batches = story.tell()
    assert [(batch.run, batch.run_type, batch.number, len(batch.x)) for batch in batches] == [
        (9, "physics", 0, 10),
        (9, "physics", 10, 8),
        (10, "cosmics", 0, 10),
    ]
    assert values(batches) == [*range(18), *range(100, 110)]
    assert story.collector.gives_runs


def test_parts_of_a_run_are_numbered_through_and_late_files_left_out(tmp_path: Path) -> None:
    pattern = r"r(?P<run>\d)p(?P<part>\d)\.csv"
    for part in (1, 3):
        (tmp_path / f"r1p{part}.csv").write_text("number,half\n" + lines(10 * part, 5))
    (tmp_path / "r2p1.csv").write_text("number,half\n")
    late = append(tmp_path / "r1p2.csv", "number,half\n" + lines(20, 5))
    with capture_logs() as logs:
        story = Story(tmp_path, nothing, nothing, nothing, late, nothing, nothing, name_pattern=pattern)
        batches = story.tell()
    assert [(batch.number, values([batch])[0]) for batch in batches] == [(0, 10), (5, 30)]
    assert story.collector.counts()["late_files"] == 1
    assert [entry["where"] for entry in logs if "comes before" in entry["event"]] == [
        str(tmp_path / "r1p2.csv")
    ]


def test_a_parquet_file_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"number": np.arange(25.0)}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    story = Story(tmp_path, nothing, lambda: path.write_bytes(whole), nothing)
    assert values(story.tell()) == list(range(20))
    assert story.collector.counts()["unreadable"] == 2


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two runs in three files with times of coarse steps and three chambers, of which one begins late."""
    folder = tmp_path / "runs"
    folder.mkdir()
    chance = np.random.default_rng(3)
    number = itertools.count()
    for run, part, n in ((1, 1, 95), (1, 2, 47), (2, 1, 88)):
        times = np.sort(chance.integers(0, 40, n)) + 100.0 * run + 50 * part
        text = "time,chamber,number\n"
        for k, time in enumerate(times):
            chamber = "abc"[int(chance.integers(0, 3 if k > 30 else 2))]
            text += f"{time},{chamber},{next(number)}\n"
        (folder / f"r{run}p{part}.csv").write_text(text)
    (folder / "r9p1.csv").write_text("time,chamber,number\n")
    return folder


@pytest.mark.parametrize("has_clock", [True, False])
def test_from_any_position_it_yields_the_same_batches(recorded: Path, has_clock: bool) -> None:
    def story(state: str) -> Story:
        options = {} if has_clock else {"columns": {"moment": "time"}, "features": ("number",)}
        steps = [nothing] * 9
        return Story(
            recorded,
            *steps,
            state=recorded.parent / state,
            name_pattern=r"r(?P<run>\d)p(?P<part>\d)\.csv",
            select="number - 7 * floor(number / 7) != 3",
            **options,
        )

    first = story("one")
    whole = first.tell()
    assert sorted(values(whole)) == [k for k in range(230) if k % 7 != 3]
    assert len({(batch.run, batch.chamber, batch.number) for batch in whole}) == len(whole)
    for position in dict.fromkeys(batch.position for batch in whole):
        place = next(k for k, batch in enumerate(whole) if batch.position == position)
        again = story(f"two-{place}").tell(position)
        assert len(again) == len(whole) - place
        for one, other in zip(again, whole[place:], strict=True):
            assert (one.run, one.chamber, one.number, one.start, one.end) == (
                other.run,
                other.chamber,
                other.number,
                other.start,
                other.end,
            )
            assert np.array_equal(one.x, other.x)
            assert (one.times is None) == (not has_clock)
            assert one.times is None or np.array_equal(one.times, other.times)


def test_a_file_that_grew_after_its_end_keeps_its_end(tmp_path: Path) -> None:
    header = "number,half\n"
    (tmp_path / "a1.csv").write_text(header + lines(0, 13))
    (tmp_path / "a2.csv").write_text(header + lines(50, 10))
    story = Story(tmp_path, nothing, nothing)
    batches = story.tell()
    story = Story(tmp_path)
    story.collector._state.commit(batches[0].position, "note")
    story.collector.close()
    append(tmp_path / "a1.csv", lines(13, 9))()
    with capture_logs() as logs:
        again = Story(tmp_path, nothing, nothing)
        assert again.note == "note"
        assert values(again.tell(batches[0].position)) == values(batches) == [*range(13), *range(50, 60)]
    assert any("grown after it was finished" in entry["event"] for entry in logs)


def test_a_file_with_fewer_rows_than_were_read_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("number,half\n" + lines(0, 30))
    with pytest.raises(FileError, match=r"a\.csv: the file has .* were read: it was written anew"):
        Story(tmp_path, lambda: path.write_text("number,half\n" + lines(0, 5)), nothing).tell()
    write, file = tree_writer(tmp_path / "b.root")
    write(30, 0)()
    file.close()

    def anew() -> None:
        write, file = tree_writer(tmp_path / "b.root")
        write(3, 0)()
        file.close()

    path.unlink()
    with pytest.raises(FileError, match=r"b\.root: the file has 3 entries, and 30 were read"):
        Story(tmp_path, anew, nothing).tell()


def test_a_file_that_stays_damaged_ends_it_or_is_left_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "a1.root").write_bytes(b"root" + bytes(200))
    with pytest.raises(FileError, match=r"a1\.root: the file has no tree"):
        Story(tmp_path, *[nothing] * 6, patience_seconds=0.3).tell()
    write, file = tree_writer(tmp_path / "a2.root")
    write(10, 0)()
    file.close()
    with capture_logs() as logs:
        story = Story(tmp_path, *[nothing] * 6, patience_seconds=0.3)
        assert values(story.tell()) == list(range(10))
    assert story.collector.counts()["damaged_files"] == 1
    assert any("left with what could be read" in entry["event"] for entry in logs)
    assert "the file can be read" not in [entry["event"] for entry in logs]


def test_a_file_that_was_finished_is_not_left_when_it_cannot_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a1.root"
    for k in (1, 2):
        write, file = tree_writer(tmp_path / f"a{k}.root")
        write(20, 20 * k)()
        file.close()
    batches = Story(tmp_path, *[nothing] * 3).tell()
    assert values(batches) == list(range(20, 60))
    content = path.read_bytes()
    path.write_bytes(b"no file")
    with pytest.raises(FileError, match=r"a1\.root: not a readable ROOT file"):
        Story(tmp_path, *[nothing] * 6, patience_seconds=0.3).tell(batches[1].position)
    path.write_bytes(content)
    assert values(Story(tmp_path, *[nothing] * 3).tell(batches[1].position)) == list(range(30, 60))


def test_a_wrong_value_ends_it_also_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("number,half\n" + lines(0, 10) + "x,1\n")
    steps = [append(path, lines(11 + k, 1)) for k in range(9)]
    with pytest.raises(FileError, match=r"row 12, column 'number': .*invalid value 'x'"):
        Story(tmp_path, *steps, patience_seconds=1.0).tell()


def test_a_file_that_goes_away_or_never_comes_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("number,half\n" + lines(0, 10))
    with pytest.raises(FileError, match=r"a\.csv: No such file"):
        Story(tmp_path, path.unlink, *[nothing] * 9, inputs=(path,), patience_seconds=1.0).tell()
    with pytest.raises(FileError, match=r"b\.csv: No such file"):
        Story(tmp_path, *[nothing] * 9, inputs=(tmp_path / "b.csv",), patience_seconds=1.0).tell()


def test_files_of_two_detectors_end_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("number,half\n" + lines(0, 10))
    (tmp_path / "a2.csv").write_text("number,energy\n")
    with pytest.raises(FileError, match=r"a2\.csv: its columns are not those of .*a1\.csv: it lacks half"):
        Story(tmp_path, *[nothing] * 5).tell()


def test_it_may_begin_with_the_latest_file_and_wait_for_the_first(tmp_path: Path) -> None:
    header = "number,half\n"
    folder = tmp_path / "in"
    folder.mkdir()
    steps = [append(folder / "a1.csv", header + lines(0, 10)), nothing]
    assert values(Story(folder, *steps, state=tmp_path / "one").tell()) == list(range(10))
    append(folder / "a2.csv", header + lines(10, 10))()
    assert values(Story(folder, state=tmp_path / "two", begin="latest").tell()) == list(range(10, 20))


def test_other_options_another_collector_and_a_damaged_state_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("number,half\n" + lines(0, 10))
    story = Story(tmp_path)
    with pytest.raises(FileError, match="another collector has this state"):
        Story(tmp_path)
    (batch,) = story.tell()
    story = Story(tmp_path)
    story.collector.commit(batch.position, "note")
    story.collector.close()
    with pytest.raises(ConfigError, match=r"batch_rows is 20, but was 10 when the state was written"):
        Story(tmp_path, batch_rows=20)
    with pytest.raises(ConfigError, match=r"select is \"number > 1\", but was null"):
        Story(tmp_path, select="number > 1")
    story = Story(tmp_path, poll_seconds=0.1)
    story.collector.close()
    (tmp_path / "a.csv").unlink()
    with pytest.raises(
        FileError, match="the file with the last acknowledged windows does not exist any more"
    ):
        Story(tmp_path).tell(batch.position)
    (tmp_path / "state").write_text('{"version": 1, "position"')
    with pytest.raises(FileError, match="is not a state of a collector"):
        Story(tmp_path)
    with pytest.raises(FileError, match="cannot be read or locked: No such file"):
        Story(tmp_path, state=tmp_path / "none" / "state")


def test_the_lock_is_held_by_the_system(tmp_path: Path) -> None:
    story = Story(tmp_path)
    with (tmp_path / "state.lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        story.collector.close()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
