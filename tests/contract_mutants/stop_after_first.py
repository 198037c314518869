"""A plugin of pytest: of each class only tests up to the first that fails are run. One failure is enough.

A class may say with ``only`` what its tests' names must have one of: the others can't notice what it breaks.
"""

from __future__ import annotations

import pytest

_failed: set[type] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    of = getattr(item, "cls", None)
    if of in _failed:
        pytest.skip("the suite has failed already")
    only = getattr(of, "only", ())
    if only and not any(part in item.name for part in only):
        pytest.skip("it can't notice")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    outcome = yield
    if outcome.get_result().failed and item.cls is not None:
        _failed.add(item.cls)
