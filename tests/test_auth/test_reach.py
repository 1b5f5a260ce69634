"""Where a server may lead us."""

import pytest
from yarl import URL

from fastapi_server.mcp.auth.reach import Reach, shown, special_of


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
        ("localhost.", "loopback"),
        ("LocalHost", "loopback"),
        ("127.0.0.1.", "loopback"),
        ("::", "loopback"),
        ("::7f00:1", "loopback"),
        ("::ffff:a9fe:a9fe", "link-local"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("64:ff9b:1::7f00:1", "private"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:a00:1::1", "private"),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),
        ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "private"),
        ("fec0::1", "private"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "private"),
        ("192.0.0.192", "private"),
        ("192.0.0.8", "private"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("::ffff:0:a9fe:a9fe", "link-local"),
        ("3fff::1", "private"),
        ("5f00::1", "private"),
        ("::ffff:0:8.8.8.8", None),
        ("192.0.1.1", None),
        ("64:ff9b::808:808", None),
        ("2002:808:808::1", None),
        ("::ffff:8.8.8.8", None),
        ("2001:4860:4860::8888", None),
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
        ("https://mcp.example.com/mcp", "https://localhost./token", False),
        ("https://mcp.example.com/mcp", "https://[64:ff9b::7f00:1]/token", False),
        ("https://mcp.example.com/mcp", "http://auth:8080/token", True),
        ("https://mcp.example.com/mcp", "http://auth/token", False),
        ("https://mcp.example.com/mcp", "https://auth:8080/token", True),
        ("https://mcp.example.com/mcp", "http:///token", False),
    ],
)
def test_where_requests_go(server: str, url: str, allowed: bool) -> None:
    reach = Reach(server, ["https://10.9.9.9/", "http://auth:8080"])
    assert (reach.refusal_of(URL(url)) is None) is allowed


@pytest.mark.parametrize(
    ("server", "url", "allowed"),
    [
        ("https://mcp.example.com/mcp", "https://login.example.com/", True),
        ("http://mcp.example.com/mcp", "http://mcp.example.com/authorize", False),
        ("http://localhost:8000/mcp", "http://127.0.0.1:9/authorize", True),
        ("https://mcp.example.com/mcp", "http://127.0.0.1:9/authorize", False),
        ("https://mcp.example.com/mcp", "javascript:alert(1)", False),
        ("https://mcp.example.com/mcp", "http://auth:8080/authorize", True),
        ("https://mcp.example.com/mcp", "http://auth:8081/authorize", False),
    ],
)
def test_where_a_person_is_sent(server: str, url: str, allowed: bool) -> None:
    assert (Reach(server, ["http://auth:8080"]).page_refusal_of(URL(url)) is None) is allowed


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://auth:8080/token", "config: auth.insecure_origins does not name http://auth:8080"),
        ("https://10.1.2.3/token", "its address is private, and the server's is not (config: auth.insecure_origins"),
        ("file:///etc/passwd", "no URL of a web server"),
    ],
)
def test_why_not(url: str, reason: str) -> None:
    assert reason in (Reach("https://mcp.example.com/mcp").refusal_of(URL(url)) or "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://ann:planted@h.example:8/path?key=planted#planted", "https://h.example:8/path"),
        ("data:planted", "data:…"),
    ],
)
def test_what_is_shown_of_a_url(url: str, said: str) -> None:
    assert shown(URL(url)) == said
