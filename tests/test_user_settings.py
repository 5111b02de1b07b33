"""core/user_settings.py: settings that users write into a file."""

import pytest
from detailers.core.user_settings import UserSettings, read_settings


@pytest.fixture
def settings(tmp_path):
    def settings(content):
        file = tmp_path / "settings.json"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        read_settings.cache_clear()
        return read_settings(file)

    return settings


def test_without_a_file_the_defaults_hold(tmp_path, caplog):
    assert read_settings(tmp_path / "none.json") == UserSettings(compat=True, downloads=False)
    assert not caplog.messages


def test_entries_are_read(settings, caplog):
    assert settings('{"compat": false, "downloads": true}') == UserSettings(False, True)
    assert settings('{"downloads": true}') == UserSettings(True, True)
    assert not caplog.messages


@pytest.mark.parametrize("content", ["{", "[]", "null", b"\xff", "[" * 100_000])
def test_a_broken_file_changes_nothing_and_is_told(settings, caplog, content):
    assert settings(content) == UserSettings()
    assert len(caplog.messages) == 1
    assert "settings.json" in caplog.messages[0]
    assert "the defaults hold" in caplog.messages[0]


def test_a_wrong_entry_is_told_and_the_others_hold(settings, caplog):
    assert settings('{"compat": 0, "downloads": true, "other": 1}') == UserSettings(True, True)
    assert len(caplog.messages) == 2
    assert "'compat' should be true or false but is 0" in caplog.messages[0]
    assert "no setting 'other', only compat, downloads" in caplog.messages[1]
