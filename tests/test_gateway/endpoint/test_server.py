"""What `/mcp` says of itself."""

from tests.test_gateway.endpoint.conftest import StartGateway
from tests.test_gateway.endpoint.test_matrix import both_eras, client_of


@both_eras
async def test_it_tells_of_changes_of_every_list(gateway: StartGateway, era: str) -> None:
    async with gateway({}) as running, client_of(running, era) as client:
        offered = (await client.initialize()).capabilities
    assert offered is not None
    for one in (offered.tools, offered.prompts, offered.resources):
        assert one is not None
        assert one.list_changed is True
