"""Every place where a plugin can take part. A plugin is a module or object with ``@hookimpl`` functions.

It is found by its entry point in the group ``s3gc``, or registered by hand with
``s3gc.plugin_manager().register(plugin)``. It imports ``s3gc`` and never another plugin.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from s3gc.abc import Compressor, Gate, ObjectCodec, ObjectCoder, ObjectStore, ReferenceSource, Vault
    from s3gc.clock import Clock
    from s3gc.config import Config
    from s3gc.model import Candidate
    from s3gc.resolver import Resolver

GROUP = "s3gc"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a function of a plugin as the implementation of a hook."""


class Hooks:
    """The hooks. Arguments are passed by name: take only those that you need."""

    @hookspec(firstresult=True)
    def s3gc_open_store(self, url: str, config: Config, clock: Clock) -> ObjectStore | None:
        """Open the bucket at ``url`` (``s3://name``, ``yours://…``), or None if the scheme isn't yours."""

    @hookspec(firstresult=True)
    def s3gc_open_source(self, url: str, config: Config, resolver: Resolver) -> ReferenceSource | None:
        """Open the place of references at ``url``, or None. ``resolver.keys(value)`` reads a value."""

    @hookspec(firstresult=True)
    def s3gc_open_vault(
        self,
        url: str,
        config: Config,
        compressors: Sequence[Compressor],
        coder: ObjectCoder | None,
        clock: Clock,
    ) -> Vault | None:
        """Make the vault at ``url`` (a path without a scheme is a local folder), or None.

        ``compressors`` are those of all plugins; new backups use the one that ``config.compression`` names.
        ``coder`` has the codecs of whole objects, if some are installed; the vault closes it.
        """

    @hookspec
    def s3gc_compressors(self) -> Sequence[Compressor]:
        """Codecs that packs may be written with and read with. Names must be unique."""

    @hookspec
    def s3gc_codecs(self) -> Sequence[ObjectCodec]:
        """Codecs of whole objects, such as pictures. Only those that this machine can decode with."""

    @hookspec(firstresult=True)
    def s3gc_open_coder(self, policy: str) -> ObjectCoder | None:
        """Codecs of whole objects at work: ``plain`` encodes nothing, ``fast`` what is quick, ``full`` all.

        All of them decode whatever can be decoded here. Nothing is started before it is needed.
        """

    @hookspec
    def s3gc_gates(self, config: Config) -> Sequence[Gate]:
        """More reasons to keep an object. They can only keep, never condemn."""

    @hookspec(firstresult=True)
    def s3gc_veto(self, candidate: Candidate) -> str | None:
        """The last word before a deletion: a reason to keep this object, or None. Errors keep the batch."""

    @hookspec
    def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
        """Something happened (see the event catalogue in the docs). Must be quick.

        An error in it is like any other error: it ends the batch before its deletes.
        """


def create_plugin_manager(*, entry_points: bool = True) -> pluggy.PluginManager:
    """A plugin manager with s3gc's own defaults and, by ``entry_points``, all installed plugins.

    The defaults are registered first and pluggy asks the last registered first: a plugin's
    ``s3gc_open_*`` goes before them.
    """
    from s3gc import _defaults

    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    manager.register(_defaults, name="s3gc.defaults")
    if entry_points:
        manager.load_setuptools_entrypoints(GROUP)
    manager.check_pending()
    return manager


@functools.cache
def plugin_manager() -> pluggy.PluginManager:
    """The process's own plugin manager, with all installed plugins. Register yours on it by hand.

    The only global state of s3gc. A collector can be given another one.
    """
    return create_plugin_manager()
