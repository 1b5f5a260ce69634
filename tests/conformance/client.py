"""The client under test of the official conformance suite: for each scenario, what a host would write.

The suite starts a mock server, runs this file with the server's URL as last argument, and judges what arrived there.
Nothing here knows the protocol, and nothing pins a revision: the library finds out which era each mock speaks.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import aiohttp
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitResult,
    TextContent,
)
from yarl import URL

from fastapi_server.mcp import (
    AuthorizationResponse,
    ClientCredentials,
    EnterpriseManaged,
    HandlerContext,
    Handlers,
    HTTPConfig,
    HTTPMCPClient,
    MCPClient,
    OAuth,
    SkillRejected,
    WorkloadIdentity,
    list_skills,
    load_skill,
    read_skill_file,
)

AuthSettings: TypeAlias = OAuth | ClientCredentials | EnterpriseManaged | WorkloadIdentity
Scenario: TypeAlias = Callable[[MCPClient], Awaitable[object]]

CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"


async def sample(_context: HandlerContext, _params: CreateMessageRequestParams) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(text="sampled"), model="none")


async def accept(_context: HandlerContext, _form: ElicitRequestFormParams) -> ElicitResult:
    """The user accepts the form as it is; filling in its defaults is the library's work."""
    return ElicitResult(action="accept", content={})


async def list_tools(client: MCPClient) -> None:
    await client.list_tools()


def call(*names: str, **arguments: Any) -> Scenario:
    """List the tools, then call each of `names`."""

    async def scenario(client: MCPClient) -> None:
        await client.list_tools()
        for name in names:
            await client.call_tool(name, arguments)

    return scenario


async def read_everything(client: MCPClient) -> None:
    """Every tool, resource and prompt, so that every method's headers are seen."""
    for tool in await client.list_tools():
        await client.call_tool(tool.name)
    for resource in await client.list_resources():
        await client.read_resource(resource.uri)
    for prompt in await client.list_prompts():
        await client.get_prompt(prompt.name)


async def call_as_told(client: MCPClient) -> None:
    """The calls that the scenario asks for, in its words."""
    await client.list_tools()
    for wanted in context()["toolCalls"]:
        await client.call_tool(wanted["name"], wanted["arguments"])


async def call_what_is_listed(client: MCPClient) -> None:
    """Tools whose annotations are invalid must have been left out of the list."""
    for tool in await client.list_tools():
        await client.call_tool(tool.name, dict.fromkeys(tool.input_schema.get("required", ()), "value"))


async def send_schema_back(client: MCPClient) -> None:
    schemas = {tool.name: tool.input_schema for tool in await client.list_tools()}
    await client.call_tool("json_schema_echo", {"schema": schemas["json_schema_2020_12_tool"]})


async def list_only(client: MCPClient) -> None:
    """The host shows the skills; nobody has loaded one."""
    await list_skills(client)


async def load_everything(client: MCPClient) -> None:
    """Load the skills, then read their files; of a skill that is rejected, nothing is used."""
    for skill in await list_skills(client):
        with suppress(SkillRejected):
            await load_skill(client, skill)
            for uri in skill.files:
                await read_skill_file(client, skill, uri)


class Browser:
    """The person with a browser: opens the page, which signs them in, and notes where it sends them."""

    def __init__(self) -> None:
        self._came_back: dict[str, str] = {}

    async def redirect(self, url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as page:
            self._came_back = dict(URL(page.headers["Location"]).query)

    async def callback(self) -> AuthorizationResponse:
        return AuthorizationResponse(self._came_back["code"], self._came_back["state"], self._came_back.get("iss"))


def context() -> dict[str, Any]:
    """What the suite gives a scenario to work with."""
    return json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))


def person(**settings: Any) -> OAuth:
    return OAuth(interaction=Browser(), client_metadata_url=CLIENT_METADATA, **settings)


def auth_for(scenario: str) -> AuthSettings | None:
    """How a host would have this scenario's client sign in."""
    given = context()
    match scenario:
        case "auth/pre-registration":
            return person(client_id=given["client_id"], client_secret=given["client_secret"])
        case "auth/client-credentials-basic":
            return ClientCredentials(given["client_id"], client_secret=given["client_secret"])
        case "auth/client-credentials-jwt":
            return ClientCredentials(given["client_id"], private_key=given["private_key_pem"])
        case "auth/enterprise-managed-authorization":
            return EnterpriseManaged(
                given["client_id"],
                client_secret=given["client_secret"],
                idp_token_endpoint=given["idp_token_endpoint"],
                idp_client_id=given["idp_client_id"],
                id_token=given["idp_id_token"],
            )
        case "auth/wif-jwt-bearer":
            return WorkloadIdentity(given["valid_jwt"], client_id=given["client_id"])
        case "auth/dpop" | "auth/dpop-nonce":
            return person(dpop=True)
        case _:
            return person() if scenario.startswith("auth/") else None


SCENARIOS: dict[str, Scenario] = {
    "initialize": list_tools,
    "tools_call": call("add_numbers", a=5, b=3),
    "elicitation-sep1034-client-defaults": call("test_client_elicitation_defaults"),
    "sse-retry": call("test_reconnection"),
    "request-metadata": call("add_numbers", a=5, b=3),
    "sep-2322-client-request-state": call(
        "test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type"
    ),
    "http-standard-headers": read_everything,
    "http-custom-headers": call_as_told,
    "http-invalid-tool-headers": call_what_is_listed,
    "json-schema-ref-no-deref": list_tools,
    "json-schema-2020-12-preservation": send_schema_back,
    "sep-2640-client-no-prefetch": list_only,
    "sep-2640-client-verify-digest": load_everything,
    "sep-2640-client-verify-size": load_everything,
    "sep-2640-client-verify-frontmatter": load_everything,
}


async def main() -> None:
    """Play the scenario that the environment names against the URL in the last argument."""
    name = os.environ["MCP_CONFORMANCE_SCENARIO"]
    scenario = call("test-tool") if name.startswith("auth/") else SCENARIOS.get(name)
    if scenario is None:
        sys.exit(f"no way is known to play the scenario {name!r}; add it to SCENARIOS")
    handlers = Handlers(sampling=sample, elicitation=accept, roots=[])
    config = HTTPConfig(endpoint=sys.argv[-1], auth=auth_for(name))
    async with HTTPMCPClient(name, config, handlers=handlers) as client:
        await scenario(client)


if __name__ == "__main__":
    asyncio.run(main())
