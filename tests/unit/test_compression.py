"""What ``compression`` means: which levels, which codecs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from coder_doubles import SeedCoder, picture
from s3gc import create_config, create_plugin_manager, hookimpl
from s3gc.abc import ObjectCoder
from s3gc.archive import Archive
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.compressors.policies import POLICIES, by_policy
from s3gc.errors import ConfigError
from s3gc.opening import vault_of
from s3gc.testing.vault_contract import read, store
from s3gc.vault._locations import index_of
from s3gc.vault.browse import Wanted, latest

pytestmark = pytest.mark.anyio

MB = 2**20


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("compression", "levels"),
    [("plain", (3, 3, 3, 3)), ("fast", (3, 3, 10, 3)), ("full", (19, 19, 19, 10))],
)
def test_levels_by_policy_and_size(compression: str, levels: tuple[int, ...]) -> None:
    codecs, name = by_policy([ZstdCompressor(), StoreCompressor()], compression)
    assert name == "zstd"
    assert [codec.name for codec in codecs] == ["zstd", "store"]
    zstd = codecs[0]
    assert isinstance(zstd, ZstdCompressor)
    sizes = (0, 8 * 1024, 8 * MB, 8 * MB + 1)
    assert tuple(zstd.level_for(size) for size in sizes) == levels
    data = bytes(range(256)) * 500
    stream = zstd.compressor(len(data))
    made = stream.compress(data) + stream.flush()
    assert made == zstandard.ZstdCompressor(level=zstd.level_for(len(data)), write_checksum=True).compress(
        data
    )


def test_a_codec_by_its_name_stays_as_it_is() -> None:
    codecs = [ZstdCompressor(7), StoreCompressor()]
    assert by_policy(codecs, "zstd") == (codecs, "zstd")
    assert by_policy(codecs, "acme-xz") == (codecs, "acme-xz")


@pytest.mark.parametrize("up_to", [{2: 0}, {2: 20}, {9: 3, 2: 3}])
def test_levels_that_are_none_are_refused(up_to: dict[int, int]) -> None:
    with pytest.raises(ValueError, match=r"level|order"):
        ZstdCompressor(3, up_to=up_to)


class Plugin:
    """An installed distribution with codecs."""

    def __init__(self) -> None:
        self.policies: list[str] = []

    @hookimpl
    def s3gc_open_coder(self, policy: str) -> ObjectCoder | None:
        self.policies.append(policy)
        return SeedCoder()


def config(folder: Path, compression: str):  # type: ignore[no-untyped-def]
    return create_config("memory://b", vault_path=folder, compression=compression)


@pytest.mark.parametrize("compression", ["fast", "plain", "zstd"])
async def test_without_codecs_there_is_zstd(tmp_path: Path, compression: str) -> None:
    plugins = create_plugin_manager(entry_points=False)
    vault = vault_of(plugins.hook, config(tmp_path / "v", compression), SystemClock())
    await vault.open("memory://b")
    records = await store(vault, {"p.jpg": picture("x"), "t.txt": b"text " * 99})
    assert (records["p.jpg"].codec, records["t.txt"].codec) == ("store", "zstd")
    await vault.aclose()


@pytest.mark.parametrize(("compression", "in_blocks"), [("fast", True), ("plain", False), ("zstd", False)])
async def test_small_objects_are_in_blocks_by_default(
    tmp_path: Path, compression: str, in_blocks: bool
) -> None:
    plugins = create_plugin_manager(entry_points=False)
    vault = vault_of(plugins.hook, config(tmp_path / "v", compression), SystemClock())
    await vault.open("memory://b")
    records = await store(vault, {"1.json": b'{"a": 1}' * 9, "2.json": b'{"a": 2}' * 9})
    assert [index_of(record.location) is not None for record in records.values()] == [in_blocks] * 2
    await vault.aclose()


def test_full_without_codecs_says_what_to_install(tmp_path: Path) -> None:
    plugins = create_plugin_manager(entry_points=False)
    with pytest.raises(ConfigError, match=r"s3gc-codecs with its extras lepton and images"):
        vault_of(plugins.hook, config(tmp_path / "v", "full"), SystemClock())


@pytest.mark.parametrize(
    ("compression", "policy"),
    [("fast", "fast"), ("full", "full"), ("plain", "plain"), ("store", "plain"), ("zstd", "plain")],
)
async def test_the_policy_reaches_the_codecs(tmp_path: Path, compression: str, policy: str) -> None:
    """Even a vault that writes without them may have to read what they made."""
    plugins, plugin = create_plugin_manager(entry_points=False), Plugin()
    plugins.register(plugin)
    vault = vault_of(plugins.hook, config(tmp_path / "v", compression), SystemClock())
    assert plugin.policies == [policy]
    await vault.open("memory://b")
    records = await store(vault, {"p": picture("x")})
    assert records["p"].codec == "seed-1"
    await vault.aclose()
    async with Archive.open(config(tmp_path / "v", "store"), plugins=plugins) as archive:
        (found,) = [stored.record async for stored in latest(archive.vault, Wanted())]
        assert await read(archive.vault, found) == picture("x")
        assert (await archive.verify()).ok


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    plugins = create_plugin_manager(entry_points=False)
    with pytest.raises(ConfigError, match="there is no codec 'lepton'"):
        vault_of(plugins.hook, config(tmp_path / "v", "lepton"), SystemClock())
    assert POLICIES.keys() == {"plain", "fast", "full"}
