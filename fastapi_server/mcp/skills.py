"""Skills that a server offers (SEP-2640): read when they are loaded, and used only if they are what was listed."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, cast

from mcp_types import BlobResourceContents, TextResourceContents

from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.errors import ConfigError, ProtocolError, SkillRejected
from fastapi_server.mcp.protocol.jsonrpc import as_object

_MAX_PAGES = 1_000
_FENCE = "---"


@dataclass(frozen=True)
class SkillFile:
    """A file as it was listed.

    Attributes:
        digest: `sha256:` and the hash of its bytes, in hexadecimal.
        size: Its bytes.
    """

    uri: str
    digest: str
    size: int


@dataclass(frozen=True)
class Skill:
    """A skill as it was listed. Nothing of it has been read yet.

    Attributes:
        uri: Of its `SKILL.md`.
        frontmatter: What a model sees of it before it is loaded: `name`, `description` and more.
        files: Every file of it, by URI; empty where the server makes them up as it goes, so that none can be verified.
    """

    uri: str
    frontmatter: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, SkillFile] = field(default_factory=dict[str, SkillFile])

    @property
    def name(self) -> str:
        """What the skill is called."""
        return str(self.frontmatter.get("name", ""))


async def list_skills(client: MCPClient, *, timeout: float | None = None) -> list[Skill]:
    """The skills of a server, every page of them. No file is read.

    Args:
        client: Of the server.
        timeout: Seconds for each page; left out, as configured.

    Raises:
        ProtocolError: The list is malformed, or never ends.
        RPCError: The server has no skills.
    """
    skills: list[Skill] = []
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    with client.locating():
        for _ in range(_MAX_PAGES):
            page = as_object(await client.request("skills/list", params, timeout=timeout))
            listed = page.get("skills")
            if not isinstance(listed, list):
                raise ProtocolError("the result of skills/list holds no list of skills")
            skills += [_skill(as_object(entry)) for entry in cast("list[Any]", listed)]
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return skills
            if cursor in cursors:
                break
            cursors.add(cursor)
            params = {"cursor": cursor}
        raise ProtocolError("skills/list never ends")


def _skill(entry: dict[str, Any]) -> Skill:
    uri, resources = entry.get("uri"), entry.get("resources")
    if not isinstance(uri, str):
        raise ProtocolError("skills/list holds a skill without a uri")
    listed = cast("list[Any]", resources) if isinstance(resources, list) else []
    files = [_file(uri, as_object(resource)) for resource in listed]
    return Skill(uri, as_object(entry.get("frontmatter")), {file.uri: file for file in files})


def _file(skill: str, entry: dict[str, Any]) -> SkillFile:
    match entry:
        case {"uri": str(uri), "digest": str(digest), "size": int(size)}:
            return SkillFile(uri, digest, size)
        case _:
            raise ProtocolError(f"skills/list: a file of {skill} has no uri, digest and size")


async def load_skill(client: MCPClient, skill: Skill, *, timeout: float | None = None) -> str:
    """The text of a skill's `SKILL.md`, once it is known to be what was listed.

    Args:
        client: Of the server that listed it.
        skill: As `list_skills` gave it.
        timeout: Seconds; left out, as configured.

    Raises:
        SkillRejected: Its bytes or its front matter are not those listed, or nothing was listed to compare them with.
            Do not use it, nor its other files.
        ConfigError: The extra `skills` is not installed.
    """
    if find_spec("yaml") is None:
        raise ConfigError("loading a skill needs the extra skills (pip install 'mcp-client-factory[skills]')")
    text = (await read_skill_file(client, skill, skill.uri, timeout=timeout)).decode("utf-8", "replace")
    with client.locating():
        if _frontmatter(text, skill.uri) != dict(skill.frontmatter):
            raise SkillRejected(f"the front matter of {skill.uri} is not what skills/list says")
    return text


async def read_skill_file(client: MCPClient, skill: Skill, uri: str, *, timeout: float | None = None) -> bytes:
    """A file of a skill, once it is known to be what was listed.

    Raises:
        SkillRejected: It is not, or it was not listed.
    """
    with client.locating():
        expected = skill.files.get(uri)
        if expected is None:
            listed = f"not among the files listed for the skill {skill.uri}"
            raise SkillRejected(f"{uri} is {listed}, so it cannot be verified")
        data = _only_file(uri, (await client.read_resource(uri, timeout=timeout)).contents)
        if len(data) != expected.size:
            raise SkillRejected(f"{uri} has {len(data)} bytes; {expected.size} were listed")
        if not hmac.compare_digest(f"sha256:{hashlib.sha256(data).hexdigest()}", expected.digest):
            raise SkillRejected(f"{uri} has another digest than was listed")
        return data


def _only_file(uri: str, contents: Sequence[TextResourceContents | BlobResourceContents]) -> bytes:
    if len(contents) != 1:
        raise SkillRejected(f"{uri} is {len(contents)} resources, not one file")
    (content,) = contents
    if isinstance(content, TextResourceContents):
        return content.text.encode()
    try:
        return base64.b64decode(content.blob)
    except ValueError:
        raise SkillRejected(f"{uri} is not base64") from None


def _frontmatter(text: str, uri: str) -> dict[str, Any]:
    """What is between the first line and the next `---`. Aliases are refused: they make a small text a large value."""
    import yaml  # noqa: PLC0415 - an extra

    first, *lines = text.splitlines()
    if first != _FENCE or _FENCE not in lines:
        raise SkillRejected(f"{uri} has no front matter")
    block = "\n".join(lines[: lines.index(_FENCE)])
    try:
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block))
        value = None if aliased else yaml.safe_load(block)
    except Exception as error:  # of any kind: a tag makes of its text what it can
        raise SkillRejected(f"the front matter of {uri} is not YAML: {type(error).__name__}") from None
    if aliased:
        raise SkillRejected(f"the front matter of {uri} has aliases")
    return as_object(value)
