"""Where a server may lead us."""

import pytest
from yarl import URL

from fastapi_server.mcp.auth.reach import Reach, special_of


@pytest.mark.parametrize(
    ("host", "special"),
    [
        ("localhost", "loopback"),
        ("a.localhost", "loopback"),
        ("127.0.0.1", "loopback"),
        ("127.1", "loopback"),
        ("2130706433", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("fd00::1", "private"),
        ("100.64.0.1", "private"),
        ("8.8.8.8", None),
        ("mcp.example.com", None),
        ("", None),
    ],
)
def test_which_hosts_are_special(host: str, special: str | None) -> None:
    assert special_of(host) == special


@pytest.mark.parametrize(
    ("server", "url", "allowed"),
    [
        ("https://mcp.example.com/mcp", "https://login.example.com/token", True),
        ("https://mcp.example.com/mcp", "http://login.example.com/token", False),
        ("https://mcp.example.com/mcp", "http://127.0.0.1:9/token", False),
        ("https://mcp.example.com/mcp", "https://localhost:9/token", False),
        ("https://mcp.example.com/mcp", "https://10.1.2.3/token", False),
        ("https://mcp.example.com/mcp", "https://169.254.169.254/token", False),
        ("https://mcp.example.com/mcp", "https://10.9.9.9/token", True),
        ("https://mcp.example.com/mcp", "file:///etc/passwd", False),
        ("http://127.0.0.1:8000/mcp", "http://localhost:9/token", True),
        ("http://127.0.0.1:8000/mcp", "https://10.1.2.3/token", False),
        ("https://10.0.0.1/mcp", "https://10.1.2.3/token", True),
        ("https://10.0.0.1/mcp", "http://127.0.0.1/token", False),
        ("http://10.0.0.1/mcp", "http://10.0.0.1/token", True),
    ],
)
def test_where_requests_go(server: str, url: str, allowed: bool) -> None:
    assert Reach(server, ["https://10.9.9.9/"]).allows_request(URL(url)) is allowed


@pytest.mark.parametrize(
    ("server", "url", "allowed"),
    [
        ("https://mcp.example.com/mcp", "https://login.example.com/", True),
        ("http://mcp.example.com/mcp", "http://mcp.example.com/authorize", False),
        ("http://localhost:8000/mcp", "http://127.0.0.1:9/authorize", True),
        ("https://mcp.example.com/mcp", "http://127.0.0.1:9/authorize", False),
        ("https://mcp.example.com/mcp", "javascript:alert(1)", False),
    ],
)
def test_where_a_person_is_sent(server: str, url: str, allowed: bool) -> None:
    assert Reach(server).allows_page(URL(url)) is allowed
