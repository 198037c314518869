"""What whole cycles by change capture have in common, whatever the database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from s3gc import Safety, create_config
from s3gc.hooks import create_plugin_manager


class Bucket:
    """A folder as the bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, *keys: str) -> None:
        for key in keys:
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"the bytes of {key}")
            os.utime(path, (time.time() - 3600, time.time() - 3600))

    @property
    def keys(self) -> set[str]:
        found = {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}
        return {key for key in found if not key.startswith(".s3gc/")}


def cycle_config(backend: str, url: str, bucket: Bucket, tmp_path: Path, **more: Any) -> Any:
    known: dict[str, Any] = {
        "bucket": f"file://{bucket.folder}",
        "tables": {"files": ["path"]},
        "mode": "execute",
        "retention_days": 0,
        "vault_path": tmp_path / "vault",
        "cdc_backend": backend,
        "cdc_connection_url": url,
        "safety": Safety.demo().but(min_observations=2),
    }
    return create_config(**{**known, **more})


def cycle_plugins(name: str, package: ModuleType) -> Any:
    manager = create_plugin_manager()
    if not manager.has_plugin(name):  # a checkout whose environment has not been set up anew
        manager.register(package, name=name)
    return manager
