"""Keys as names of files: no two alike, none leads out, and the key can be read back."""

from __future__ import annotations

import urllib.parse

from hypothesis import example, given
from hypothesis import strategies as st

from s3gc.testing.vault_contract import ODD_KEYS
from s3gc.vault.names import EMPTY, OTHER, PART_BYTES, PATH_BYTES, other_path_of, path_of

KEYS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.text("aA./%_ é\u0301~\\:\x00", min_size=1, max_size=12),
    st.sampled_from(ODD_KEYS),
)


def key_of(path: str) -> str:
    """The inverse, for those that aren't below OTHER."""
    parts = ("" if part == EMPTY else urllib.parse.unquote(part, errors="strict") for part in path.split("/"))
    return "/".join(parts)


@given(KEYS)
@example("../../etc/passwd")
@example("/etc/passwd")
@example("a/./b")
@example("..")
@example("%other/x")
@example("%_")
@example("con.txt")
@example("k" * 1024)
@example("k/" * 512)
def test_the_key_can_be_read_back_and_the_path_stays_inside(key: str) -> None:
    path = path_of(key)
    assert not path.is_absolute()
    assert not {"..", ".", ""} & set(path.parts)
    assert "\\" not in str(path)
    assert ":" not in str(path)
    assert not any(part.endswith((".", " ")) or part.startswith(" ") for part in path.parts)
    assert all(len(part.encode()) <= PART_BYTES for part in path.parts)
    assert len(str(path).encode()) <= PATH_BYTES
    if path.parts[0] == OTHER:
        assert path == other_path_of(key)
    else:
        assert key_of(str(path)) == key  # so no two keys share a path


@given(KEYS)
def test_nothing_is_called_as_what_extract_adds(key: str) -> None:
    first = path_of(key).parts[0]
    assert first != "%index.jsonl"
    assert path_of(key) == other_path_of(key) or first != OTHER


def test_names_of_devices_are_escaped() -> None:
    for name in ("CON", "con.txt", "Lpt1.tar.gz"):
        assert str(path_of(name))[0] == "%"
        assert key_of(str(path_of(name))) == name
    assert str(path_of("console.txt")) == "console.txt"


def test_what_people_write_stays_readable() -> None:
    assert str(path_of("photos/2026/Zoë am Meer 1.jpg")) == "photos/2026/Zoë am Meer 1.jpg"
    assert str(path_of("日本語/a_b-c.tar.gz")) == "日本語/a_b-c.tar.gz"
