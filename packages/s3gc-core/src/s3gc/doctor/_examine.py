"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

import pluggy
from attrs import evolve
from ulid import ULID

from s3gc.abc import Gate, ObjectStore, ReferenceSource, Vault
from s3gc.clock import Clock, SystemClock
from s3gc.config import Config, scrub
from s3gc.doctor import _settings, _sources, _store, _vault, _waiting
from s3gc.doctor._check import Check, Status
from s3gc.errors import S3GCError
from s3gc.hooks import plugin_manager
from s3gc.opening import open_parts
from s3gc.parts import Parts


async def examine(
    config: Config,
    *,
    probe: bool = False,
    sources: Sequence[ReferenceSource] = (),
    store: ObjectStore | None = None,
    vault: Vault | None = None,
    gates: Sequence[Gate] = (),
    plugins: pluggy.PluginManager | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Check]:
    """Look at everything that a cycle needs. A check that can't be made fails, and the others are made.

    Reads only, but for what opening the vault and the registry makes (as a plan does), a file in the vault's
    folder that is removed again, and the probe's objects.

    Args:
        probe: find out what the store can do, by writing a few objects below ``.s3gc/probe/``. Without it the
            last probe is told.
        sources, store, vault, gates, plugins, clock: as for :meth:`s3gc.Collector.open`.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        try:
            parts = await stack.enter_async_context(
                open_parts(
                    config,
                    store=store,
                    sources=sources,
                    vault=vault,
                    gates=gates,
                    plugins=plugins or plugin_manager(),
                    clock=clock,
                    new_id=lambda: str(ULID.from_datetime(clock.now())),
                )
            )
        except S3GCError as error:
            why = scrub(str(error), config)
            yield Check("opening", "", Status.FAIL, why, "cure this first: nothing else could be looked at")
            return
        yield Check("opening", "", Status.PASS, f"{parts.store.url} and its vault {parts.vault.id} are open")
        for name, look in _checks(probe):
            try:
                async with aclosing(look(parts)) as found:  # type: ignore[type-var]
                    async for one in found:
                        yield evolve(one, found=scrub(one.found, config), fix=scrub(one.fix, config))
            except S3GCError as error:  # a check that can't be made is a finding, too
                yield Check(name, "", Status.FAIL, scrub(str(error), config), "the text says what is missing")


_Look = Callable[[Parts], AsyncIterator[Check]]


def _checks(probe: bool) -> Sequence[tuple[str, _Look]]:
    return (
        ("settings", _settings.settings),
        ("clock", _store.clock),
        ("listing", _store.listing),
        ("store", _store.store_probed if probe else _store.store),
        ("owner", _store.owner),
        ("source", _sources.sources),
        ("coverage", _sources.coverage),
        ("resolve_rate", _sources.resolve_rate),
        ("vault", _vault.vault),
        ("durability", _vault.durability),
        ("backups", _vault.backups),
        ("replicas", _vault.replicas),
        ("lock", _waiting.lock),
        ("recovery", _waiting.recovery),
        ("breakers", _waiting.breakers),
    )
