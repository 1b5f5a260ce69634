"""What is started with the application, and ended with it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.background import running, unless
from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.endpoint.app import Endpoint
from fastapi_server.gateway.first_round import FirstRound
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.history import History
from fastapi_server.gateway.roster import Roster
from fastapi_server.gateway.settings import Settings
from fastapi_server.gateway.store import Seal, Store
from fastapi_server.gateway.watch import ConfigWatch
from fastapi_server.mcp import ServerConfig, load_config
from fastapi_server.mcp.demo.fleet import demo_fleet


@dataclass(frozen=True)
class Parts:
    """What routes ask for."""

    gateway: Gateway
    store: Store
    audit: Audit
    roster: Roster
    endpoint: Endpoint
    first_round: FirstRound


@asynccontextmanager
async def started(settings: Settings, store: Store, key_ring: KeyRing, draining: Draining) -> AsyncGenerator[Parts]:
    """The parts, at work. The settings that they see have a secret, whoever made it.

    Raises:
        ConfigError: The config file is broken.
    """
    async with AsyncExitStack() as ending:
        await ending.enter_async_context(store)
        secret = settings.secret or SecretStr(await store.secret("sealing"))
        if settings.require_key:
            await _print_first_key(key_ring)
        demo = await _demo_servers(settings, store, ending)
        gateway = Gateway(settings, draining=draining)
        audit = Audit(store, arguments=settings.audit_arguments, schema_of=gateway.directory.schema_of)
        ending.push_async_callback(audit.close)
        await ending.enter_async_context(running(audit.keep_writing))
        ending.push_async_callback(gateway.close)
        history = History(gateway.recent, store, days=settings.history_days)
        await ending.enter_async_context(running(history.keep_minutes))
        roster = Roster(gateway, store, Seal(secret.get_secret_value()))
        if settings.config is None:
            await roster.fix(demo)
        else:
            watch = ConfigWatch(settings.config, roster, gateway.events)
            await watch.start()
            await ending.enter_async_context(running(watch.watch))
        await ending.enter_async_context(running(roster.follow))
        endpoint = Endpoint(gateway, audit, secret.get_secret_value())
        await ending.enter_async_context(endpoint.running())
        await ending.enter_async_context(running(lambda over: unless(over, _end_streams(endpoint, draining))))
        first_round = FirstRound(gateway)
        await ending.enter_async_context(running(first_round.go))
        yield Parts(gateway, store, audit, roster, endpoint, first_round)


async def _demo_servers(settings: Settings, store: Store, ending: AsyncExitStack) -> dict[str, ServerConfig]:
    """Started where there is nothing else to serve; they outlive their clients."""
    if not settings.demo or settings.config is not None or await store.servers():
        return {}
    return load_config(await ending.enter_async_context(demo_fleet())).servers


async def _print_first_key(key_ring: KeyRing) -> None:
    key = await key_ring.make_first(KeyGrant("admin", admin=True))
    if key is not None:
        print(
            f"There was no API key yet. This one may do everything; it is not shown again:\n\n    {key}\n", flush=True
        )


async def _end_streams(endpoint: Endpoint, draining: Draining) -> None:
    await draining.begun.wait()
    await endpoint.end_streams()
