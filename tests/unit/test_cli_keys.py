"""Keys on a terminal: no two look the same, nothing that a terminal obeys gets through."""

from __future__ import annotations

import json
import shlex
import subprocess
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3gc_cli._keys import is_plain, read_key, shell_word, show_key, show_text

KEYS = st.text(max_size=40) | st.text(alphabet='aé"\\ u0\u0301\u202e\x1b\n', max_size=12)


@given(KEYS, KEYS)
@example("\x1b", '"\\u001b"')
@example("é", "e\u0301")
@example("a", '"a"')
def test_two_keys_never_look_the_same(one: str, other: str) -> None:
    assert (show_key(one) == show_key(other)) == (one == other)


@given(KEYS)
@example("\x1b[31m")
@example("a\u202eb")
@example("")
def test_what_is_shown_is_visible_and_can_be_read_back(key: str) -> None:
    shown = show_key(key)
    assert shown.isprintable()
    assert shown.strip() == shown != ""
    again = json.loads(shown) if shown.startswith('"') else shown
    assert again == key
    if not any(0xD800 <= ord(character) <= 0xDFFF for character in key):
        assert (read_key(None, shown) if shown.startswith('"') else read_key(shown, None)) == key


@pytest.mark.parametrize(
    "key", ["images/1.jpg", "Jahresübersicht – 50% (más).pdf", "日本語.txt", "a+b&c?d=#e", "😀"]
)
def test_everyday_keys_are_shown_as_they_are(key: str) -> None:
    assert show_key(key) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        (" a", "a space at the start"),
        ("a ", "a space at the end"),
        ("a  b", "two spaces"),
        ("a\tb", "a tab"),
        ("a\nb", "a line feed"),
        ("a\u00a0b", "a no-break space"),
        ("a\u200bb", "a zero-width space"),
        ("a\u202eb", "text from right to left"),
        ("❤\ufe0f", "a variation selector"),
        ("a\u034fb", "a grapheme joiner"),
        ("a\u2800b", "a blank Braille pattern"),
        ("e\u0301", "decomposed"),
        ("\u0323x", "a mark on nothing"),
        ('"a"', "looks like an escaped key"),
        ("a\ud800", "half a surrogate pair"),
        ("a\x7f", "delete"),
        ("a\x9b1m", "an 8-bit control sequence"),
    ],
)
def test_odd_keys_are_escaped(key: str, why: str) -> None:
    assert not is_plain(key), why
    assert show_key(key) == json.dumps(key)
    assert show_key(key).isascii()


@given(st.text(max_size=60))
def test_a_line_of_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = show_text(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(character).startswith("C") for character in shown)


def test_a_key_is_given_once_and_as_text() -> None:
    assert read_key(None, None) is None
    assert read_key("a\\u0000", None) == "a\\u0000"
    assert read_key(None, '"a\\u0000"') == "a\0"
    for key, key_json, said in (
        ("a", '"a"', "once"),
        (None, "a", "quotes"),
        (None, "[1]", "one JSON string"),
        ("a\udcff", None, "not UTF-8"),
        (None, '"\\ud800"', "not UTF-8"),
    ):
        with pytest.raises(ValueError, match=said):
            read_key(key, key_json)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "two words",
        "it's",
        "$HOME `id` \\x41",
        "é",
        "e\u0301",
        "a\nb\ttab",
        "it's \x1b[2J\u202e\\'",
        "\udcff",
    ],
)
def test_a_word_for_the_shell_is_visible_and_means_the_text(text: str) -> None:
    word = shell_word(text)
    assert show_text(word) == word
    done = subprocess.run(
        ["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode(errors="surrogateescape") == text


@given(KEYS)
def test_a_word_for_the_shell_is_one_word(text: str) -> None:
    word = shell_word(text.encode(errors="replace").decode())
    assert show_text(word) == word
    assert word.startswith("$'") or len(shlex.split(word)) == 1
