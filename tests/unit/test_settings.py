"""Settings come from the environment, and each can be looked up where it is used."""

import pytest
from typer.testing import CliRunner

from schemas.errors import SettingsError
from streams.__main__ import app
from streams.settings import Settings, load_settings


def test_a_setting_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_USER_PARTITIONS", "16")
    assert load_settings().user_partitions == 16


def test_what_a_command_is_given_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_BOOTSTRAP", "a:1")
    assert load_settings(bootstrap="b:2").bootstrap == "b:2"
    assert load_settings(bootstrap=None).bootstrap == "a:1"


def test_a_value_that_cannot_be_is_one_line_with_name_and_value(monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_COMMIT_INTERVAL_S", "-1")
    match = r"GROUNDSWELL_COMMIT_INTERVAL_S.*greater"
    with pytest.raises(SettingsError, match=match) as told:
        load_settings()
    assert "\n" not in str(told.value)


def test_the_companys_topics_carry_the_prefix_and_their_kind():
    settings = load_settings(topic_prefix="x-", event_sources="a, b", reward_sources="c")
    assert settings.source_topics == {"x-a": "event", "x-b": "event", "x-c": "reward"}


def test_every_setting_is_listed_with_its_meaning(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    listed = CliRunner().invoke(app, ["settings"])
    assert listed.exit_code == 0
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"GROUNDSWELL_{name.upper()}" in listed.output


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GROUNDSWELL_SASL_PASSWORD", "hunter2")
    shown = CliRunner().invoke(app, ["settings"])
    assert "hunter2" not in shown.output
    assert "********** (set)" in shown.output


@pytest.mark.parametrize("command", [[], ["worker"], ["replay"], ["demo"], ["campaign", "apply"]])
def test_help_shows_an_example(command):
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert not command or "Example" in shown.output
