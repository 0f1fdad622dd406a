from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from dqm.config import (
    NAME_PATTERN,
    CollectorConfig,
    CollectorSection,
    DaemonConfig,
    DaemonSection,
    StreamSection,
    WindowSection,
    is_local,
    split_http,
)


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from models_in(inner)


@pytest.mark.parametrize("model", [DaemonConfig, CollectorConfig])
def test_every_key_says_what_it_means(model: type[BaseModel]) -> None:
    for part in models_in(model):
        assert part.model_config["extra"] == "forbid"
        assert part.model_config["frozen"]
        assert all(field.description for field in part.model_fields.values())


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:5565",
        "tcp://127.8.0.1:0",
        "tcp://[::1]:5565",
        "ipc:///run/dqm/windows",
        "ipc://@abstract",
    ],
)
def test_loopback_and_ipc_may_be_listened_at(address: str) -> None:
    assert DaemonSection(listen=(address,)).listen == (address,)


REMOTE = [
    "tcp://0.0.0.0:5565",
    "tcp://192.168.1.5:5565",
    "tcp://[::]:5565",
    "tcp://[::ffff:10.0.0.1]:5565",
]


@pytest.mark.parametrize("address", REMOTE)
def test_other_hosts_are_listened_to_with_keys_alone(address: str) -> None:
    with pytest.raises(
        ValidationError, match=r"other hosts: keys must name a directory.*dqm keys new daemon"
    ):
        DaemonSection(listen=("ipc://w", address))
    assert DaemonSection(listen=(address,), keys=Path("keys")).keyed == "remote"


@pytest.mark.parametrize("wish", [{"keyed": "all"}, {"key": "daemon.secret"}])
def test_keys_need_a_directory(wish: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="keys must name a directory"):
        DaemonSection.model_validate(wish)


@pytest.mark.parametrize("address", ["tcp://monitor:5565", "tcp://10.0.0.1:5565"])
def test_a_collector_speaks_to_other_hosts_with_keys_alone(address: str) -> None:
    plain = {"name": "tdc", "connect": address}
    with pytest.raises(
        ValidationError, match=r"other host: key and daemon_key must be given; .*dqm keys new NAME"
    ):
        CollectorSection.model_validate(plain)
    with pytest.raises(ValidationError, match="must both be given"):
        CollectorSection.model_validate(plain | {"key": "west.secret"})
    CollectorSection.model_validate(plain | {"key": "west.secret", "daemon_key": "daemon.public"})


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("ipc://w", True),
        ("tcp://127.0.0.1:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("tcp://localhost.evil:1", False),
        ("tcp://127.evil:1", False),
        ("tcp://0:1", False),
        *((address, False) for address in REMOTE),
    ],
)
def test_what_is_not_known_to_be_local_is_not(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://*:5565", "not at a name"),
        ("tcp://localhost:5565", "not at a name"),
        ("tcp://127.0.0.1", "HOST:PORT"),
        ("tcp://127.0.0.1:65536", "port from 0 to 65535"),
        ("tcp://127.0.0.1:-1", "HOST:PORT"),
        ("tcp://::1:5565", "in brackets"),
        ("udp://127.0.0.1:5565", "tcp:// or ipc://"),
        ("ipc://", "1 to 107 bytes"),
        ("ipc://" + "a" * 108, "1 to 107 bytes"),
    ],
)
def test_other_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        DaemonSection(listen=(address,))


@pytest.mark.parametrize("port", [9100, 9187, 9999])
def test_ports_of_exporters_are_refused(port: int) -> None:
    with pytest.raises(ValidationError, match="Prometheus exporters"):
        DaemonSection(http=f"0.0.0.0:{port}")


@pytest.mark.parametrize(
    ("address", "parts"),
    [("0.0.0.0:9099", ("0.0.0.0", 9099)), ("[::1]:10000", ("::1", 10000)), ("monitor:80", ("monitor", 80))],  # noqa: S104
)
def test_an_http_address_is_split(address: str, parts: tuple[str, int]) -> None:
    assert split_http(DaemonSection(http=address).http) == parts


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"events": 0},
        {"seconds": 10.0},
        {"expected_rate_hz": 10.0},
        {"events": 500, "seconds": 10.0},
        {"events": 500, "seconds": 10.0, "expected_rate_hz": 10.0},
        {"seconds": float("inf"), "expected_rate_hz": 10.0},
    ],
)
def test_a_window_is_cut_in_exactly_one_way(keys: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        WindowSection.model_validate(keys)


@pytest.mark.parametrize("name", ["chamber-1", "T_0.5", "-x", "_", "9", "a" * 64])
def test_names_that_fit(name: str) -> None:
    assert re.search(NAME_PATTERN, name)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "a" * 65, "é", "a\x00"])
def test_names_that_do_not_fit(name: str) -> None:
    assert not re.search(NAME_PATTERN, name)


def test_a_store_is_a_database_without_its_password() -> None:
    assert DaemonSection(store="postgresql://dqm@db/dqm").store == "postgresql+psycopg://dqm@db/dqm"
    with pytest.raises(ValidationError, match="must hold no password"):
        DaemonSection(store="postgresql://dqm:secret@db/dqm")
    with pytest.raises(ValidationError, match="must begin with postgresql"):
        DaemonSection(store="mysql://dqm@db/dqm")


def daemon_with(*groups: str, **tables: object) -> DaemonConfig:
    streams = [{"name": f"s{i}", "bundle": "b", "group": group} for i, group in enumerate(groups)]
    return DaemonConfig.model_validate({"streams": streams, **tables})


def test_a_share_for_the_rolling_reference_counts_where_a_stream_has_one() -> None:
    streams: list[dict[str, object]] = [{"name": "s", "bundle": "b"}]
    tables = {"alarm": {"drift_share": 0.75}}
    DaemonConfig.model_validate({"streams": streams, **tables})
    streams[0]["rolling"] = {"windows": 30}
    with pytest.raises(ValidationError, match=r"rolling_share = 0\.1 and the other shares leave nothing"):
        DaemonConfig.model_validate({"streams": streams, **tables})


def test_a_group_without_a_stream_is_a_slip_of_the_pen() -> None:
    daemon_with("muon/one", "muon/two/left", groups={"muon": {}, "muon/two": {"policy": "all"}})
    with pytest.raises(ValidationError, match="groups: no stream has a group in muon/on, muo"):
        daemon_with("muon/one", groups={"muon/on": {}, "muo": {}})


@pytest.mark.parametrize("path", ["/", "a/", "/a", "a//b", "a b", "/".join("abcdefghi")])
def test_paths_of_groups_are_names_with_slashes(path: str) -> None:
    with pytest.raises(ValidationError, match="group"):
        daemon_with(path)


@pytest.mark.parametrize(
    ("alarm", "message"),
    [
        ({"k": 4}, "k = 4 must not exceed n = 3"),
        ({"drift_share": 0.85}, "nuisance_share = 0.1 and rate_share = 0.1 leave nothing"),
        ({"contact": ""}, "at least 1 character"),
        ({"false_alarms_per_shift": 0}, "greater than 0"),
        ({"autocorrelation": 0.8}, "less than or equal to 0.7"),
        ({"priority": "P5"}, "'P1', 'P2', 'P3' or 'P4'"),
    ],
)
def test_alarms_that_cannot_be_derived_or_answered_are_refused(
    alarm: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        daemon_with("", alarm=alarm)


def test_a_stream_has_one_bundle_or_one_for_each_type_of_run_or_a_list_with_conditions() -> None:
    one = StreamSection.model_validate({"name": "a", "bundle": "b"})
    assert [(r.bundle, r.takes_all) for r in one.ordered_references] == [(Path("b"), True)]
    types = StreamSection.model_validate({"name": "a", "bundles": {"cosmics": "c", "beam": "b"}})
    assert [(r.bundle, r.run_types) for r in types.ordered_references] == [
        (Path("c"), ("cosmics",)), (Path("b"), ("beam",)),
    ]  # fmt: skip
    tables = [
        {"bundle": "c", "run_types": ["beam"], "conditions": {"hv": [-1250, -1150], "gas": "new", "n": 3}},
        {"bundle": "b"},
    ]
    rest = StreamSection.model_validate({"name": "a", "references": tables}).ordered_references
    assert rest[0].conditions == {"hv": (-1250.0, -1150.0), "gas": "new", "n": 3.0}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "one of bundle, bundles and references must be given"),
        ({"bundles": {}}, "one of bundle, bundles and references must be given"),
        ({"bundle": "b", "bundles": {"beam": "b"}}, "may be given, not bundle and bundles"),
        ({"bundle": "b", "references": [{"bundle": "b"}]}, "may be given, not bundle and references"),
        ({"references": [{"bundle": "b"}, {"bundle": "c"}]}, "number 0 takes every window"),
        ({"bundles": {"a beam": "b"}}, "String should match pattern"),
        ({"references": [{"run_types": ["beam"]}]}, "Field required"),
        *(
            (
                {"references": [{"bundle": "b", "conditions": {"hv": value}}]},
                "is not a condition: give a text, a number",
            )
            for value in ([2.0, 1.0], [1.0], ["1", "2"], True, [1.0, math.inf], math.nan, {"low": 1.0})
        ),
    ],
)
def test_references_that_cannot_be_meant_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StreamSection.model_validate({"name": "a", **keys})
