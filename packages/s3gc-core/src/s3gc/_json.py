"""One converter for every value that is written as JSON: exact, canonical, readable."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from cattrs import Converter

converter = Converter(forbid_extra_keys=True)
converter.register_unstructure_hook(datetime, lambda moment: moment.isoformat())
converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
converter.register_unstructure_hook(timedelta, lambda span: span.total_seconds())
converter.register_structure_hook(timedelta, lambda seconds, _: timedelta(seconds=seconds))


def dumps(value: Any) -> str:
    """Canonical JSON: sorted names, no spaces, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
