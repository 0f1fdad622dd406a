"""The place where an installation grows: nothing half-made is seen, nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.errors import ConfigError
from dqm.service.installation import Workplace
from dqm.service.installation.workplace import REFERENCES


def test_everything_appears_in_a_single_step(tmp_path: Path) -> None:
    with Workplace(tmp_path / "west", "a") as place:
        (place.folder / "daemon.toml").write_text("x")
        assert not (tmp_path / "west").exists()
        place.finish()
    assert [path.name for path in (tmp_path / "west").iterdir()] == ["daemon.toml"]
    assert [path.name for path in tmp_path.iterdir()] == ["west"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    place = Workplace(tmp_path / "west", "a")
    (place.folder / "daemon.toml").write_text("x")
    with pytest.raises(RuntimeError), place:
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_toys_are_kept_for_the_next_attempt_with_the_same_run_alone(tmp_path: Path) -> None:
    bundle = Path(REFERENCES) / "west.dqmref"
    place = Workplace(tmp_path / "west", "a")
    (place.folder / bundle).mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), place:
        raise KeyboardInterrupt
    assert not (tmp_path / "west").exists()
    with Workplace(tmp_path / "west", "a") as place:
        assert place.goes_on
        assert (place.folder / bundle).is_dir()
    with Workplace(tmp_path / "west", "b") as place:
        assert not place.goes_on
        assert not (place.folder / bundle).exists()


def test_two_attempts_do_not_meet(tmp_path: Path) -> None:
    with (
        Workplace(tmp_path / "west", "a"),
        pytest.raises(ConfigError, match="another 'dqm init'"),
        Workplace(tmp_path / "west", "a"),
    ):
        pass


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    there = tmp_path / "west"
    if kind == "file":
        there.write_text("mine")
    elif kind == "link":
        there.symlink_to(tmp_path / "nowhere")
    else:
        there.mkdir()
        (there / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        Workplace(there, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["west"]


def test_what_comes_there_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with Workplace(tmp_path / "west", "a") as place:
        (tmp_path / "west").mkdir()
        (tmp_path / "west" / "mine").write_text("mine")
        with pytest.raises(ConfigError, match="is there already"):
            place.finish()
    assert (tmp_path / "west" / "mine").read_text() == "mine"


def test_a_directory_of_somebody_else_in_the_place_of_the_temporary_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".west.dqm-init").mkdir()
    (tmp_path / ".west.dqm-init" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by 'dqm init'"):
        Workplace(tmp_path / "west", "a")
    assert (tmp_path / ".west.dqm-init" / "mine").read_text() == "mine"
