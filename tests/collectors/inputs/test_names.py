"""Names that are proposed for columns whose own names no feature can have."""

from __future__ import annotations

from dqm_collectors.inputs.names import is_feature_name, suggest_names


def test_proposed_names_are_different_and_can_be_names_of_features() -> None:
    names = ["θ (rad)", "φ (rad)", "drift/time", "drift time", "drift:time", "é", "温度", "压力", "x" * 80]
    found = suggest_names(names)
    assert found == [
        "theta_rad", "phi_rad", "drift_time", "drift_time_2", "drift_time_3", "e", "x", "x_2", "x" * 60
    ]  # fmt: skip
    assert all(map(is_feature_name, found))
