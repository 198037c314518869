"""Values that are relative to a folder of the bucket (Django's ``location``) protect what lies there."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_cli import Place
from s3gc import Collector, Safety, create_config
from s3gc.errors import ConfigError
from s3gc.resolver import Resolver


@pytest.mark.parametrize(
    ("written", "prefixes"),
    [
        (["media"], ("media/",)),
        (["/media//", "media/"], ("media/",)),
        (["img-*", "a/b"], ("img-*", "a/b/")),
    ],
)
def test_how_they_are_written(written: list[str], prefixes: tuple[str, ...]) -> None:
    config = create_config("my-bucket", tables={"t": ["c"]}, database_url="sqlite:///x", key_prefixes=written)
    assert config.key_prefixes == prefixes
    again = create_config("my-bucket", tables={"t": ["c"]}, database_url="sqlite:///x", key_prefixes=prefixes)
    assert again.key_prefixes == prefixes
    without = create_config("my-bucket", tables={"t": ["c"]}, database_url="sqlite:///x")
    assert config.digest != without.digest


@pytest.mark.parametrize("wrong", ["media", ["/"], ["*"], [""], ["https://cdn.example.com/media"]])
def test_what_they_cannot_be(wrong: object) -> None:
    with pytest.raises(ConfigError, match="key_prefixes"):
        create_config("my-bucket", tables={"t": ["c"]}, database_url="sqlite:///x", key_prefixes=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("avatars/1.jpg", "media/avatars/1.jpg"),
        ("/avatars/1.jpg", "media/avatars/1.jpg"),
        ("a%20b.jpg", "media/a b.jpg"),
        ('{"file": "x/y.pdf"}', "media/x/y.pdf"),
        ('<img src="/x.png">', "media/x.png"),
        ("media/a.jpg", "media/a.jpg"),
        (b"a.jpg", "media/a.jpg"),
    ],
)
def test_every_form_of_value_is_read_below_them_too(value: object, key: str) -> None:
    assert key in Resolver("my-bucket", key_prefixes=["media/"]).keys(value)


@given(st.text(max_size=40) | st.binary(max_size=20), st.sampled_from(["media/", "p-", "é/"]))
def test_nothing_is_read_less(value: object, prefix: str) -> None:
    plain = Resolver("my-bucket").keys(value)
    found = Resolver("my-bucket", key_prefixes=[prefix]).keys(value)
    assert found >= plain
    assert found >= {prefix + key for key in plain if not key.startswith("/") and len(prefix + key) <= 1024}


@pytest.mark.parametrize("folders", [{}, {"assets": ["location"]}])
def test_what_lies_below_stays_and_the_direct_read_sees_it(
    tmp_path: Path, folders: dict[str, list[str]]
) -> None:
    place = Place(tmp_path).make()
    place.put("media/avatars/1.jpg", b"live")
    place.put("media/avatars/2.jpg", b"an orphan")
    place.put("media/albums/7/cover.jpg", b"live only with folders")
    place.rows("avatars/1.jpg", "albums/7")

    async def deleted() -> set[str]:
        config = create_config(
            place.bucket.as_uri(),
            database_url=f"sqlite:///{place.database}",
            tables={"assets": ["location"]},
            folders=folders,
            key_prefixes=["media"],
            vault_path=str(tmp_path / "vault"),
            retention_days=0,
            mode="execute",
            safety=Safety.demo(),
        )
        async with Collector.open(config) as gc:
            explanation = await gc.explain("media/avatars/1.jpg")
            assert [reference.key for _, reference in explanation.references] == ["media/avatars/1.jpg"]
            return set((await gc.collect()).deleted)

    gone = anyio.run(deleted)
    assert "media/avatars/1.jpg" not in gone
    assert "media/avatars/2.jpg" in gone
    assert ("media/albums/7/cover.jpg" in gone) is not bool(folders)


@pytest.mark.parametrize("backend", ["postgres", "mysql"])
def test_change_capture_reads_anew_when_they_change(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positions that it has noted are of another reading of the values."""
    import importlib

    plugin = importlib.import_module(f"s3gc_cdc_{backend}")
    seen: list[object] = []

    def source(*_: object, resolver_settings: object, **__: object) -> None:
        seen.append(resolver_settings)

    module = importlib.import_module(f"s3gc_cdc_{backend}.source")
    name = next(one for one in vars(module) if one.endswith("Source") and one.lower().startswith(backend))
    monkeypatch.setattr(module, name, source)
    if hasattr(plugin, name):
        monkeypatch.setattr(plugin, name, source)
    scheme = {"postgres": "postgresql", "mysql": "mysql"}[backend]
    for prefixes in ([], ["media"]):
        url = f"{scheme}://u:p@h/d"
        config = create_config(
            "my-bucket",
            tables={"t": ["c"]},
            cdc_backend=backend,
            cdc_connection_url=url,
            vault_path=str(tmp_path),
            key_prefixes=prefixes,
        )
        plugin.s3gc_open_source(f"cdc+{url}", config=config, resolver=Resolver("my-bucket"))
    assert len(seen) == 2
    assert seen[0] != seen[1]
