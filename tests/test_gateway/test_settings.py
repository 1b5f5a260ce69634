"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from fastapi_server.gateway import Settings


@pytest.mark.parametrize("words", ["a.example, b.example:*", '["a.example", "b.example:*"]'])
def test_lists_are_words_between_commas_or_json(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("GATEWAY_ALLOWED_HOSTS", words)
    assert Settings().allowed_hosts == ["a.example", "b.example:*"]


@pytest.mark.parametrize("name", ["GATEWAY_REQUIRE_KEYS", "gateway_requirekey"])
def test_what_is_nearly_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValidationError, match=f"{name} is no setting; GATEWAY_REQUIRE_KEY is one"):
        Settings()


def test_other_names_may_be_anybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_PORT", "GATEWAY_SERVICE_HOST", "GATEWAY_PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8000")
    assert Settings().require_key is False


def test_a_short_secret_is_told_how_long_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "short")
    with pytest.raises(ValidationError, match="must have 32 characters at least"):
        Settings()
