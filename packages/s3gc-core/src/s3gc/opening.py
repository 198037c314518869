"""From a configuration to opened parts: asks the plugins, checks what fits together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pluggy

from s3gc import _threads
from s3gc._log import get_logger
from s3gc.abc import Compressor, Gate, ObjectCoder, ObjectStore, ReferenceSource, Vault
from s3gc.clock import Clock
from s3gc.compressors.policies import FULL, PLAIN, POLICIES
from s3gc.config import REGISTRY_FILE, Config, redact
from s3gc.copies import open_replicas
from s3gc.derivation import Derivation
from s3gc.errors import ConfigError
from s3gc.gates import prefix_start, standard_gates
from s3gc.lease import NoLease
from s3gc.parts import Parts, source_name
from s3gc.protection import Protection
from s3gc.registry import Registry, path_of
from s3gc.resolver import Resolver


@asynccontextmanager
async def open_parts(
    config: Config,
    *,
    store: ObjectStore | None,
    sources: Sequence[ReferenceSource],
    vault: Vault | None,
    gates: Sequence[Gate],
    plugins: pluggy.PluginManager,
    clock: Clock,
    new_id: Callable[[], str],
) -> AsyncIterator[Parts]:
    """Open everything; close it in reverse order, whatever happens."""
    hook = plugins.hook
    async with AsyncExitStack() as stack:
        store = store or store_of(hook, config, clock)
        stack.push_async_callback(store.aclose)
        resolver = resolver_of(config, store.bucket)
        all_sources = [*_open_sources(hook, config, resolver), *sources]
        for source in all_sources:
            stack.push_async_callback(source.aclose)
        _check_names(all_sources)
        vault = vault or vault_of(hook, config, clock)
        stack.push_async_callback(vault.aclose)
        await vault.open(store.url)
        replicator = await stack.enter_async_context(open_replicas(config, vault, clock))
        folder = folder_of(config)
        await _threads.run(lambda: folder.mkdir(parents=True, exist_ok=True))
        registry = Registry(config.registry_url or str(folder / REGISTRY_FILE))
        stack.push_async_callback(registry.aclose)
        await registry.open(store.url)
        protection = Protection(Derivation(config.derived))
        own = standard_gates(
            exclude_prefixes=config.exclude_prefixes,
            owned_prefixes=config.owned_prefixes,
            protection=protection,
            retention=timedelta(days=config.retention_days),
            safety=config.safety,
        )
        plugged = [gate for some in hook.s3gc_gates(config=config) for gate in some]
        yield Parts(
            config=config,
            store=store,
            sources=tuple(all_sources),
            vault=vault,
            registry=registry,
            gates=(*own, *plugged, *gates),
            protection=protection,
            lease=NoLease(),
            hook=hook,
            clock=clock,
            new_id=new_id,
            log=get_logger().bind(bucket=store.bucket),
            folder=folder,
            replicator=replicator,
        )


def folder_of(config: Config) -> Path:
    """The local folder for lock, plans and registry: the vault's, or where the registry's file is."""
    if "://" not in config.vault_path:
        return Path(config.vault_path)
    if config.registry_url is None:
        raise ConfigError(
            "a vault at a URL needs registry_url, a local file: plans and the lock live beside it"
        )
    return path_of(config.registry_url).parent


def resolver_of(config: Config, bucket: str) -> Resolver:
    """The one resolver of a bucket."""
    return Resolver(
        bucket,
        endpoint_hosts=[urlsplit(config.endpoint_url).netloc] if config.endpoint_url else [],
        base_urls=config.base_urls,
        key_prefixes=[prefix_start(prefix) for prefix in config.key_prefixes],
    )


def store_of(hook: pluggy.HookRelay, config: Config, clock: Clock) -> ObjectStore:
    store: ObjectStore | None = hook.s3gc_open_store(url=config.store_url, config=config, clock=clock)
    if store is None:
        raise ConfigError(
            f"no plugin opens the bucket {redact(config.store_url)}: write a bare name, s3://, file:// "
            "or memory://, or install the plugin"
        )
    return store


def _open_sources(hook: pluggy.HookRelay, config: Config, resolver: Resolver) -> list[ReferenceSource]:
    urls = list(config.sources)
    if config.cdc_backend is not None:
        urls.insert(0, f"cdc+{config.cdc_connection_url}")
    elif config.database_url is not None:
        urls.insert(0, config.database_url)
    opened: list[ReferenceSource] = []
    for url in urls:
        source: ReferenceSource | None = hook.s3gc_open_source(url=url, config=config, resolver=resolver)
        if source is None:
            scheme = url.partition(":")[0]
            if scheme.startswith("cdc+"):
                raise ConfigError(
                    f"cdc_backend={config.cdc_backend!r} needs s3gc-cdc-{config.cdc_backend}, which isn't "
                    "installed; to scan without change capture, give database_url and leave cdc_backend out"
                )
            raise ConfigError(f"no plugin opens the source {scheme}://…: is its distribution installed?")
        opened.append(source)
    return opened


def _check_names(sources: Sequence[ReferenceSource]) -> None:
    names = [source_name(source) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two sources are named {name!r}: give each a name of its own")


def vault_of(hook: pluggy.HookRelay, config: Config, clock: Clock) -> Vault:
    compressors: list[Compressor] = [one for some in hook.s3gc_compressors() for one in some]
    vault: Vault | None = hook.s3gc_open_vault(
        url=config.vault_path,
        config=config,
        compressors=compressors,
        coder=coder_of(hook, config),
        clock=clock,
    )
    if vault is None:
        raise ConfigError(
            f"no plugin opens the vault {redact(config.vault_path)}: write the path of a folder"
        )
    return vault


def coder_of(hook: pluggy.HookRelay, config: Config) -> ObjectCoder | None:
    """The codecs of whole objects, if some are installed: whatever is written, backups may need them.

    Raises:
        ConfigError: ``compression`` is ``full`` and there are none.
    """
    policy = config.compression if config.compression in POLICIES else PLAIN
    coder: ObjectCoder | None = hook.s3gc_open_coder(policy=policy)
    if coder is None and policy == FULL:
        raise ConfigError(
            'compression = "full" needs the distribution s3gc-codecs with its extras lepton and images, '
            'which isn\'t installed; "fast" takes what is there'
        )
    return coder
