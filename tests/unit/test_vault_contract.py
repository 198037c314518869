"""The local vault passes the contract that plugins must pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coder_doubles import LzmaCoder
from s3gc.abc import Vault
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.model import BackupRecord
from s3gc.testing.vault_contract import VaultContract
from s3gc.vault import LocalVault
from s3gc.vault.packs import parse_location


def flip_middle(folder: Path, record: BackupRecord) -> None:
    pack, offset, length = parse_location(record.location)
    path = folder / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[offset + length - 150] ^= 1  # behind the header, in front of the trailer
    path.write_bytes(data)


class TestLocalVault(VaultContract):
    @pytest.fixture(params=["zstd", "store", "coded"])
    def make_vault(self, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Vault]:
        return lambda: LocalVault(
            tmp_path / "vault",
            compressors=[ZstdCompressor(), StoreCompressor()],
            clock=SystemClock(),
            codec="store" if request.param == "coded" else request.param,
            coder=LzmaCoder() if request.param == "coded" else None,
        )

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Callable[[BackupRecord], None]:
        return lambda record: flip_middle(tmp_path / "vault", record)
