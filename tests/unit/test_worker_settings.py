"""The workers' settings: documented, bounded, and named when they are wrong."""

from dataclasses import fields

import pytest

import streams.settings
from streams.settings import VARIABLE_PREFIX, Settings, SettingsError


def test_each_setting_is_documented_with_its_default() -> None:
    table = {}
    for line in (streams.settings.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0].strip().startswith(VARIABLE_PREFIX):
            table[cells[0]] = cells[2].strip(" |")
    own = {VARIABLE_PREFIX + setting.name.upper() for setting in fields(Settings) if setting.metadata}
    assert set(table) == own | {"SLUICEGATE_KAFKA_USERNAME, _PASSWORD or _PASSWORD_FILE", "SLUICEGATE_KAFKA_CA_FILE"}
    for setting in fields(Settings):
        if setting.metadata and setting.name != "worker_name":
            shown = table[VARIABLE_PREFIX + setting.name.upper()]
            assert setting.metadata["parse"](shown) == setting.default


@pytest.mark.parametrize(
    ("variable", "text"),
    [("PARTITIONS", "0"), ("PARTITIONS", "many"), ("SESSION_S", "nan"), ("GROUP", "two words"), ("DATA_DIR", " "),
     ("ACCEPT_LOST_SOURCE", "yes"), ("HEALTH_LISTEN", ":9464")],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"SLUICEGATE_{variable} is '{text}'"):
        Settings.from_environment({f"SLUICEGATE_{variable}": text})


def test_a_margin_longer_than_the_session_is_refused() -> None:
    with pytest.raises(SettingsError, match="less than half"):
        Settings.from_environment({"SLUICEGATE_SESSION_S": "2"})
