"""What a key is derived from: every reading counts, and too many readings keep the key."""

from __future__ import annotations

import pytest

from s3gc import derivation
from s3gc.derivation import Derivation, TooManyParents

THUMB = {"thumbs/{key}_{size}.jpg": "{key}.jpg"}


@pytest.mark.parametrize(
    ("key", "parents"),
    [
        ("thumbs/a_200.jpg", {"a.jpg"}),
        ("thumbs/a/b/c_200.jpg", {"a/b/c.jpg"}),
        ("thumbs/a_b_200.jpg", {"a.jpg", "a_b.jpg"}),
        ("thumbs/_200.jpg", set()),
        ("thumbs/a_.jpg", set()),
        ("thumbs/a_2/0.jpg", set()),
        ("thumbs/a_2/b_200.jpg", {"a_2/b.jpg"}),
        ("thumbs/a_200.jpg2", set()),
        ("xthumbs/a_200.jpg", set()),
        ("a.jpg", set()),
        ("", set()),
        ("thumbs/{key}_200.jpg", {"{key}.jpg"}),
        ("thumbs/é_200.jpg", {"é.jpg"}),
        ("thumbs/e\u0301_200.jpg", {"e\u0301.jpg"}),
    ],
)
def test_a_key_may_hold_slashes_and_a_size_may_not(key: str, parents: set[str]) -> None:
    assert Derivation(THUMB).parents(key) == parents


@pytest.mark.parametrize(
    ("rules", "key", "parents"),
    [
        ({}, "a", set()),
        ({"{name}/thumb": "{name}.jpg"}, "a/b/thumb", set()),
        ({"{name}/thumb": "{name}.jpg"}, "a/thumb", {"a.jpg"}),
        ({"x/{key}/{name}": "{key}-{name}"}, "x/a/b/c", {"a/b-c"}),
        ({"x/{name}/{key}": "{key}-{name}"}, "x/a/b/c", {"b/c-a"}),
        ({"{a}{b}.c": "{a}/{b}"}, "xyz.c", {"x/yz", "xy/z"}),
        ({"{a}/{a}.jpg": "{a}"}, "x/x.jpg", {"x"}),
        ({"{a}/{a}.jpg": "{a}"}, "x/y.jpg", set()),
        ({"{n}.webp": "{n}.jpg", "{key}.webp": "{key}.png"}, "d/a.webp", {"d/a.png"}),
        ({"{n}.webp": "{n}.jpg", "{key}.webp": "{key}.png"}, "a.webp", {"a.jpg", "a.png"}),
        ({"variants/{id}/{size}": "originals/{id}"}, "variants/7/s", {"originals/7"}),
        ({"all/{key}": "the-one"}, "all/x/y", {"the-one"}),
        ({"[{n}].*": "{n}+?"}, "[a].*", {"a+?"}),
        ({"[{n}].*": "{n}+?"}, "a.x", set()),
    ],
)
def test_rules(rules: dict[str, str], key: str, parents: set[str]) -> None:
    assert Derivation(rules).parents(key) == parents


def test_a_parent_may_be_derived_itself() -> None:
    rules = {"thumbs/{key}": "{key}", "{key}.webp": "{key}.jpg"}
    assert Derivation(rules).parents("thumbs/thumbs/a.webp") == {
        "thumbs/a.webp",
        "a.webp",
        "thumbs/thumbs/a.jpg",
        "thumbs/a.jpg",
        "a.jpg",
    }


def test_rules_in_a_circle_come_to_an_end_and_never_name_the_key_itself() -> None:
    rules = {"{key}.a": "{key}.b", "{key}.b": "{key}.a"}
    assert Derivation(rules).parents("x.a") == {"x.b"}
    assert Derivation({"{a}{b}": "{b}{a}"}).parents("xx") == frozenset()


def test_a_circle_of_others_comes_to_an_end_too() -> None:
    rules = {"t/{key}": "{key}", "{key}.a": "{key}.b", "{key}.b": "{key}.a"}
    assert Derivation(rules).parents("t/x.a") == {"x.a", "t/x.b", "x.b"}


def test_readings_count_even_if_all_name_one_parent() -> None:
    """They are what takes the time."""
    rule = Derivation({"{a}{b}": "the-one"})
    assert rule.parents("x" * (derivation.MOST_PARENTS + 1)) == {"the-one"}
    with pytest.raises(TooManyParents):
        rule.parents("x" * (derivation.MOST_PARENTS + 2))


def test_generations_that_are_not_followed_to_their_end_are_refused() -> None:
    rule = Derivation({"{key}.bak": "{key}"})
    most = derivation.GENERATIONS - 1
    assert rule.parents("x" + ".bak" * most) == {"x" + ".bak" * number for number in range(most)}
    with pytest.raises(TooManyParents):
        rule.parents("x" + ".bak" * (most + 1))


def test_too_many_readings_are_refused_and_as_many_as_allowed_are_not() -> None:
    rules = {"{a}{b}": "{a}/{b}/"}
    most = "x" * (derivation.MOST_PARENTS + 1)  # a cut between any two letters
    assert len(Derivation(rules).parents(most)) == derivation.MOST_PARENTS
    with pytest.raises(TooManyParents):
        Derivation(rules).parents(most + "x")


def test_too_many_parents_of_several_rules_and_generations_are_refused() -> None:
    key = "x" * (derivation.MOST_PARENTS // 2 + 10)
    one = {"{a}{b}": "{a}/{b}/"}
    two = {**one, "{c}{d}": "{c}:{d}:/"}
    assert len(Derivation(one).parents(key)) < derivation.MOST_PARENTS
    with pytest.raises(TooManyParents):
        Derivation(two).parents(key)


@pytest.mark.parametrize(
    ("form", "parent", "why"),
    [
        ("thumbs/a.jpg", "a.jpg", "no field"),
        ("", "a", "no field"),
        ("{a}{b}{c}{d}", "{a}", "more than 3"),
        ("{key}.x", "{name}", "doesn't have"),
        ("{key}.x", "{key", "brace"),
        ("{key}.x", "}{key}", "brace"),
        ("{key}.x", "{key!r}", "brace"),
        ("{key}.x", "{key.real}", "brace"),
        ("{key}.x", "{}", "brace"),
        ("{key}.x}", "{key}", "brace"),
        ("{{key}}.x", "{key}", "brace"),
        ("{key}.{0}", "{key}", "brace"),
        ("{key}.x", "{key}.x", "its own parent"),
        ("{key}", "{key}.src", "never comes to an end"),
        ("{key}.x", "y/{key}.x", "never comes to an end"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(form: str, parent: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Derivation({form: parent})


def test_a_key_that_would_be_cut_in_too_many_ways_is_kept_and_not_waited_for() -> None:
    """Half a million ways to cut it, and none of them fits: only the number of tries tells."""
    rule = Derivation({"{a}{b}{c}z": "the-one"})
    with pytest.raises(TooManyParents):
        rule.parents("x" * 1_023)
    assert rule.parents("x" * 100) == frozenset()
    assert rule.parents("x" * 20 + "z") == {"the-one"}
