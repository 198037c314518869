"""A plugin of pytest: of each class only tests up to the first that fails are run. One failure is enough."""

from __future__ import annotations

import pytest

_failed: set[type] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if getattr(item, "cls", None) in _failed:
        pytest.skip("the suite has failed already")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    outcome = yield
    if outcome.get_result().failed and item.cls is not None:
        _failed.add(item.cls)
