"""Skills are read when they are loaded, and rejected where they are not what was listed."""

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    ConfigError,
    HTTPConfig,
    HTTPMCPClient,
    ProtocolError,
    SkillRejected,
    list_skills,
    load_skill,
    read_skill_file,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer

MAIN, MORE = "skill://pdf/SKILL.md", "skill://pdf/logo.png"
TEXT = "---\nname: pdf\ndescription: Reads them\nmetadata:\n  level: 2\n---\n\nBody.\n"
PLANTED = "planted-secret"
PICTURE = b"\x89PNG\r\n"


def listed(uri: str, data: bytes) -> dict[str, Any]:
    return {"uri": uri, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def entry(text: str = TEXT) -> dict[str, Any]:
    return {
        "uri": MAIN,
        "frontmatter": {"name": "pdf", "description": "Reads them", "metadata": {"level": 2}},
        "resources": [listed(MAIN, text.encode()), listed(MORE, PICTURE)],
    }


class Library:
    """What the server lists, and what it then serves."""

    def __init__(self) -> None:
        self.skills: Any = [entry()]
        self.text = TEXT
        self.copies = 1
        self.blob = base64.b64encode(PICTURE).decode()
        self.reads: list[str] = []

    async def list(self, seen: Seen) -> web.StreamResponse:
        return seen.json({"resultType": "complete", "skills": self.skills})

    async def read(self, seen: Seen) -> web.StreamResponse:
        uri = seen.body["params"]["uri"]
        self.reads.append(uri)
        main, more = {"uri": uri, "text": self.text}, {"uri": uri, "blob": self.blob}
        result = {"resultType": "complete", "contents": [main if uri == MAIN else more] * self.copies, "ttlMs": 0}
        return seen.json({**result, "cacheScope": "private"})


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
async def client(nothing_left: None, library: Library) -> AsyncIterator[HTTPMCPClient]:
    async with http_peer(HTTPPeer(stateless=True)) as peer:
        peer.handlers |= {"skills/list": library.list, "resources/read": library.read}
        async with HTTPMCPClient("library", HTTPConfig(f"{peer.url}/mcp", api_key=PLANTED)) as connected:
            yield connected


async def test_listing_reads_nothing(client: HTTPMCPClient, library: Library) -> None:
    (skill,) = await list_skills(client)
    assert (skill.name, skill.uri) == ("pdf", MAIN)
    assert not library.reads


async def test_a_skill_that_is_what_was_listed(client: HTTPMCPClient, library: Library) -> None:
    (skill,) = await list_skills(client)
    assert await load_skill(client, skill) == TEXT
    assert await read_skill_file(client, skill, MORE) == PICTURE
    assert library.reads == [MAIN, MORE]


@pytest.mark.parametrize(
    ("text", "says"),
    [(TEXT.replace("Body", "Evil"), "digest"), (TEXT + "more", "bytes")],
)
async def test_a_skill_that_has_changed(client: HTTPMCPClient, library: Library, text: str, says: str) -> None:
    library.text = text
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match=says):
        await load_skill(client, skill)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("Reads them", "Sends them"), "not what skills/list says"),
        (TEXT.replace("level: 2", "level: '2'"), "not what skills/list says"),
        ("no front matter", "no front matter"),
        ("---\nname: [\n---\n", "not YAML"),
        ("---\nname: !!bool pdf\n---\n", "not YAML: KeyError"),
        ("---\nname: 2026-02-30\n---\n", "not YAML: ValueError"),
        ("---\na: &a [1]\nb: *a\n---\n", "aliases"),
    ],
)
async def test_front_matter_that_is_not_what_was_listed(
    client: HTTPMCPClient, library: Library, text: str, says: str
) -> None:
    library.text, library.skills = text, [entry(text)]
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match=says):
        await load_skill(client, skill)


async def test_a_file_that_was_not_listed_is_not_asked_for(client: HTTPMCPClient, library: Library) -> None:
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match="not among the files"):
        await read_skill_file(client, skill, "skill://pdf/other.md")
    assert not library.reads


async def test_what_is_made_up_as_it_goes_cannot_be_verified(client: HTTPMCPClient, library: Library) -> None:
    library.skills = [{**entry(), "resources": "dynamic"}]
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match="cannot be verified"):
        await load_skill(client, skill)


@pytest.mark.parametrize("skills", [None, [{}], [{"uri": MAIN, "resources": [{"uri": MAIN}]}]])
async def test_malformed_lists(client: HTTPMCPClient, library: Library, skills: Any) -> None:
    library.skills = skills
    with pytest.raises(ProtocolError, match="skills/list"):
        await list_skills(client)


async def test_pages(nothing_left: None) -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"skills": [entry()], "nextCursor": "2"},
        "2": {"skills": [entry()], "nextCursor": "3"},
        "3": {"skills": [entry()]},
    }

    async def page(seen: Seen) -> web.StreamResponse:
        return seen.json({"resultType": "complete", **pages[seen.body["params"].get("cursor")]})

    async with (
        http_peer(HTTPPeer({"skills/list": page}, stateless=True)) as peer,
        HTTPMCPClient("library", HTTPConfig(f"{peer.url}/mcp")) as client,
    ):
        assert len(await list_skills(client)) == 3
        pages["3"] = {"skills": [], "nextCursor": "2"}
        with pytest.raises(ProtocolError, match="never ends"):
            await list_skills(client)


async def test_a_read_of_several_resources_is_no_file(client: HTTPMCPClient, library: Library) -> None:
    library.copies = 2
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match="not one file"):
        await load_skill(client, skill)


async def test_a_file_that_is_no_base64(client: HTTPMCPClient, library: Library) -> None:
    library.blob = "a"
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected, match=r"logo\.png is not base64"):
        await read_skill_file(client, skill, MORE)


async def test_errors_name_the_server_and_show_no_credential(client: HTTPMCPClient, library: Library) -> None:
    uri = f"skill://{PLANTED}/SKILL.md"
    library.skills = [{**entry(), "uri": uri, "resources": [listed(uri, b"as it was")]}]
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected) as changed:
        await load_skill(client, skill)
    with pytest.raises(SkillRejected) as unlisted:
        await read_skill_file(client, skill, f"{uri}/more")
    library.skills = [{**entry(), "resources": [listed(uri, PICTURE)]}]
    (skill,) = await list_skills(client)
    with pytest.raises(SkillRejected) as without_front_matter:
        await load_skill(client, replace(skill, uri=uri))
    library.skills = [{"uri": uri, "resources": [{}]}]
    with pytest.raises(ProtocolError) as malformed:
        await list_skills(client)
    for error in (changed.value, unlisted.value, without_front_matter.value, malformed.value):
        assert str(error).startswith("server 'library' (http): ")
        assert "skill://***" in str(error)
        assert error.phase == "call"


async def test_without_the_extra(client: HTTPMCPClient, monkeypatch: pytest.MonkeyPatch) -> None:
    (skill,) = await list_skills(client)
    monkeypatch.setattr("fastapi_server.mcp.skills.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"mcp-client-factory\[skills\]"):
        await load_skill(client, skill)
