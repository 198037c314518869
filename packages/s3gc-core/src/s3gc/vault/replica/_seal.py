"""Sealing a replica's objects before they leave: AES-256-GCM by segments, a key of its own for each object.

``docs/replication.md`` describes the bytes; change neither alone. The construction is STREAM (Hoang,
Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015)
with keys derived as Tink's AES-GCM-HKDF streaming does: the number of a segment and whether it is the last
one stand in its nonce, so that nothing can be cut off, moved or added, and no nonce is used twice.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s3gc.errors import ConfigError, VaultCorrupt, VaultError
from s3gc.vault import _fs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"S3GCSEAL"
VERSION = 1
HEADER = struct.Struct(">8sHI32sB")  # magic, version, segment size, salt, length of the key's id
SEGMENT_BYTES = 1024 * 1024
TAG_BYTES = 16
KEY_BYTES = 32
SALT_BYTES = 32
_NONCE = struct.Struct(">7xIB")  # seven zero bytes, the segment's number, whether it is the last

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class ReplicaKeys:
    """Keys by id; the first one seals, all of them open.

    Args:
        keys: id (1 to 64 letters, digits, ``.``, ``_``, ``-``) → 32 bytes.

    Raises:
        ConfigError: there is none, or one is malformed. No error shows a key.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigError("no key is given to seal replicas with")
        for name, key in keys.items():
            if not _ID.fullmatch(name):
                raise ConfigError("a key's id is 1 to 64 letters, digits, dots, dashes or underscores")
            if len(key) != KEY_BYTES:
                raise ConfigError(f"the key {name!r} has {len(key)} bytes, it must have {KEY_BYTES}")
        if len(set(keys.values())) != len(keys):
            raise ConfigError("two ids stand for the same key: give each key one id")
        require_cryptography()
        self._keys = dict(keys)
        self.current = next(iter(self._keys))
        """The id of the key that seals."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"ReplicaKeys({', '.join(self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("keys aren't pickled")

    def cipher(self, name: str, salt: bytes, header: bytes) -> AESGCM:
        """The cipher of one object.

        Raises:
            VaultError: there is no key of this id.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        key = self._keys.get(name)
        if key is None:
            raise VaultError(
                f"it is sealed with the key {name!r}, and the keys given are {', '.join(self._keys)}: "
                "add the missing one behind them"
            )
        return AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=header).derive(key))


def require_cryptography() -> None:
    """
    Raises:
        ConfigError: the package isn't installed.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError("sealing replicas needs the extra: pip install 's3gc-core[encryption]'") from None


def parse_keys(text: str) -> ReplicaKeys:
    """Keys as a file holds them: a line for each, ``<id> <32 bytes in base64>``; ``#`` begins a comment.

    Raises:
        ConfigError: a line is malformed; it is named by its number only.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise ConfigError(f"line {number} of the replicas' keys isn't an id and a key in base64")
        try:
            key = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"line {number} of the replicas' keys: the key isn't base64") from None
        if words[0] in keys:
            raise ConfigError(f"line {number} of the replicas' keys: the id {words[0]!r} stands there twice")
        keys[words[0]] = key
    return ReplicaKeys(keys)


def load_keys(setting: str, environ: Mapping[str, str] = os.environ) -> ReplicaKeys:
    """Keys from where an option says: ``env:NAME`` for a variable that holds them, else a file's path.

    Raises:
        ConfigError: there is nothing, or it is malformed.
    """
    if setting.startswith("env:"):
        name = setting.removeprefix("env:")
        text = environ.get(name, "")
        if not text.strip():
            raise ConfigError(f"the variable {name!r} should hold the replicas' keys and is empty")
        # A variable can't hold lines everywhere.
        return parse_keys(text.replace(";", "\n"))
    try:
        return parse_keys(Path(setting).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the replicas' keys can't be read from {setting!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the replicas' keys in {setting!r} aren't text") from None


def new_key_line(name: str) -> str:
    """A new random key as a line of a key file."""
    ReplicaKeys({name: bytes(KEY_BYTES)})  # the id is checked
    return f"{name} {base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n"


def add_key(file: Path, name: str) -> tuple[str, ...]:
    """Put a new random key first into a key file, which is made if need be; gives all ids.

    Raises:
        ConfigError: the file or the id is malformed, or the id is there already.
        OSError: the file can't be written.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    made = new_key_line(name) + text
    keys = parse_keys(made)
    _fs.replace_file(file, made.encode())
    return keys.ids


def sealed_size(size: int, key_id: str) -> int:
    """Bytes of an object of ``size`` bytes once it is sealed."""
    return HEADER.size + len(key_id) + size + TAG_BYTES * max(1, -(-size // SEGMENT_BYTES))


def seal(keys: ReplicaKeys, name: str, data: bytes, *, segment: int = SEGMENT_BYTES) -> bytes:
    """``data`` sealed under the name that it will have."""
    salt = os.urandom(SALT_BYTES)
    key_id = keys.current.encode()
    header = HEADER.pack(MAGIC, VERSION, segment, salt, len(key_id)) + key_id
    bound = header + name.encode()
    cipher = keys.cipher(keys.current, salt, bound)
    view = memoryview(data)
    parts = [header]
    count = max(1, -(-len(data) // segment))
    for number in range(count):
        piece = view[number * segment : (number + 1) * segment]
        parts.append(cipher.encrypt(_NONCE.pack(number, number == count - 1), piece, bound))
    return b"".join(parts)


def unseal(keys: ReplicaKeys, name: str, data: bytes) -> bytes:
    """The inverse, for the object that has this name.

    Raises:
        VaultCorrupt: these aren't the bytes that were sealed under this name, or the key is another one.
        VaultError: the key is missing, or the format is newer.
    """
    from cryptography.exceptions import InvalidTag

    if data[: len(MAGIC)] != MAGIC:
        raise VaultCorrupt(f"{name} isn't sealed, or its beginning is damaged")
    if len(data) < HEADER.size:
        raise VaultCorrupt(f"{name} is cut off")
    _, version, segment, salt, length = HEADER.unpack_from(data)
    if version != VERSION:
        raise VaultError(f"{name} is sealed in version {version}, known is {VERSION}: update s3gc")
    header = data[: HEADER.size + length]
    key_id = header[HEADER.size :].decode("ascii", "replace")
    if len(header) != HEADER.size + length or not segment or not _ID.fullmatch(key_id):
        raise VaultCorrupt(f"{name}: its beginning is damaged")
    bound = header + name.encode()
    try:
        cipher = keys.cipher(key_id, salt, bound)
    except VaultError as error:
        raise VaultError(f"{name} can't be opened: {error}") from None
    view = memoryview(data)[len(header) :]
    stored = segment + TAG_BYTES
    count = max(1, -(-len(view) // stored))
    parts: list[bytes] = []
    try:
        for number in range(count):
            piece = view[number * stored : (number + 1) * stored]
            parts.append(cipher.decrypt(_NONCE.pack(number, number == count - 1), piece, bound))
    except (InvalidTag, ValueError):
        raise VaultCorrupt(
            f"{name} doesn't open with the key {key_id!r}: it was changed, cut off or renamed, or another "
            "key had this id"
        ) from None
    return b"".join(parts)
