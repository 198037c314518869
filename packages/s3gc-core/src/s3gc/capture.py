"""Change capture seen from outside: what it lacks, setting it up, taking it down, how far it is behind."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pluggy
from attrs import Factory, frozen

from s3gc.abc import ReferenceSource
from s3gc.config import Config
from s3gc.errors import ConfigError
from s3gc.opening import resolver_of


@frozen
class CaptureFinding:
    """One thing that keeps changes from being followed, or that deserves a warning."""

    code: str
    subject: str
    problem: str
    fix: str  # a statement to run, or advice; '' if there is none
    fatal: bool = True  # else a warning
    ours: bool = False  # setting up mends it

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}" if self.fix else self.problem


@frozen
class CaptureState:
    """Change capture of one source, looked at."""

    source: str
    findings: Sequence[CaptureFinding] = ()
    details: Mapping[str, str] = Factory(dict)  # names of what is kept in the database, its state
    lag_bytes: int | None = None  # written by the database since the last change that was released
    held_bytes: int | None = None  # of its log that the database keeps for us

    @property
    def ready(self) -> bool:
        """Whether nothing keeps a cycle from following changes."""
        return not any(one.fatal for one in self.findings)


class ChangeCapture(ReferenceSource):
    """A followed source that keeps something in the database: a slot, a publication."""

    @abc.abstractmethod
    async def capture_state(self) -> CaptureState:
        """Look, and change nothing.

        Raises:
            SourceError: it can't be looked at.
        """

    @abc.abstractmethod
    async def set_up(self) -> Sequence[str]:
        """Make what it needs in the database, as the first cycle would. Returns what was done.

        Raises:
            SourceError: something else must be mended first; it says what to run.
        """

    @abc.abstractmethod
    async def tear_down(self) -> Sequence[str]:
        """Leave nothing behind in the database. Returns what was removed.

        Raises:
            SourceError: something can't be removed; it says what to run.
        """


@asynccontextmanager
async def open_capture(config: Config, plugins: pluggy.PluginManager) -> AsyncIterator[ChangeCapture]:
    """The followed source of a configuration by itself, without bucket, vault and registry.

    Raises:
        ConfigError: changes aren't followed in this configuration, or their package isn't installed.
    """
    if config.cdc_backend is None:
        raise ConfigError(
            'changes aren\'t followed here: write cdc_backend = "postgres" or "mysql", and cdc_connection_url'
        )
    bucket = urlsplit(config.store_url).netloc or "not-read-here"  # nothing is resolved by it, only told
    source = plugins.hook.s3gc_open_source(
        url=f"cdc+{config.cdc_connection_url}", config=config, resolver=resolver_of(config, bucket)
    )
    if source is None:
        raise ConfigError(
            f"cdc_backend={config.cdc_backend!r} needs s3gc-cdc-{config.cdc_backend}, which isn't installed"
        )
    try:
        if not isinstance(source, ChangeCapture):
            raise ConfigError(f"{type(source).__name__} keeps nothing in the database")
        yield source
    finally:
        await source.aclose()
