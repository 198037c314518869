"""Values of the vault as JSON: in pack headers, in journal entries, in canonical form.

Canonical JSON here: names sorted, no spaces, text as it is (only ``"``, ``\\`` and control characters
escaped), UTF-8, numbers finite. The same value gives the same bytes on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any

from attrs import fields
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, ObjectAttributes, SameAs

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _encoder() -> Callable[[Any], str]:
    """``_ENCODER.encode``; where json's C part is there, without setting it up anew for each value."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _ENCODER.encode
    # The arguments that JSONEncoder.iterencode gives it. Without ``markers`` a circle ends in RecursionError.
    encode: Callable[[Any, int], tuple[str, ...]] = make(
        None, _ENCODER.default, encode_basestring, None, ":", ",", True, False, False
    )
    return lambda value: "".join(encode(value, 0))


_encode = _encoder()


def canonical(value: Any) -> str:
    """``value`` as canonical JSON text.

    Raises:
        VaultError: it isn't made of JSON values alone.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise VaultError(f"this can't be written as JSON: {error}") from error


def quoted(text: str) -> str:
    """One text as canonical JSON: the same as :func:`canonical`, without its detours."""
    return encode_basestring(text)


def time_to_text(moment: datetime) -> str:
    """UTC, microseconds, ISO 8601: ``2026-11-23T18:42:00.000000+00:00``.

    Raises:
        VaultError: ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise VaultError(f"the time {moment} has no time zone: give an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def time_from_text(text: str) -> datetime:
    """The inverse of :func:`time_to_text`.

    Raises:
        VaultCorrupt: it isn't such a text.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise VaultCorrupt(f"{text!r} is not a time") from error
    if moment.tzinfo is None:
        raise VaultCorrupt(f"the time {text!r} has no time zone")
    return moment.astimezone(UTC)


def _text(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"text expected, got {value!r}")
    return value


def _whole(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"a whole number expected, got {value!r}")
    return value


def _converter() -> Converter:
    made = Converter(forbid_extra_keys=True)
    made.register_structure_hook(str, _text)
    made.register_structure_hook(int, _whole)
    made.register_unstructure_hook(datetime, time_to_text)
    made.register_structure_hook(datetime, lambda text, _: time_from_text(text))
    for cls, lean in ((ObjectAttributes, True), (SameAs, False), (BackupRecord, False)):
        made.register_unstructure_hook(
            cls,
            make_dict_unstructure_fn(cls, made, _cattrs_omit_if_default=lean),
        )
        made.register_structure_hook(
            cls,
            make_dict_structure_fn(cls, made, _cattrs_forbid_extra_keys=True),
        )
    return made


_CONVERTER = _converter()
_unstructure_attributes = _CONVERTER.get_unstructure_hook(ObjectAttributes)


def _structure(data: Any, cls: type[Any], what: str) -> Any:
    try:
        return _CONVERTER.structure(data, cls)
    except ClassValidationError as error:
        unknown = [e for e in error.exceptions if isinstance(e, ForbiddenExtraKeysError)]
        if unknown:
            raise VaultError(f"{what} is of a newer s3gc, update it: {unknown[0]}") from error
        reasons = "; ".join(str(e) for e in error.exceptions)
        raise VaultCorrupt(f"{what} is damaged: {reasons}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise VaultCorrupt(f"{what} is damaged: {error}") from error


def record_to_json(record: BackupRecord) -> dict[str, Any]:
    """A backup record as JSON values, for the journal's ``data``. What the store didn't send is left out."""
    made = {  # by hand: this runs twice for each object that is collected
        "key": record.key,
        "etag": record.etag,
        "size": record.size,
        "sha256": record.sha256,
        "last_modified": time_to_text(record.last_modified),
        "version_id": record.version_id,
        "attributes": attributes_to_json(record.attributes),
        "codec": record.codec,
        "stored_size": record.stored_size,
        "location": record.location,
    }
    if record.same_as is not None:
        made["same_as"] = same_as_to_json(record.same_as)
    return made


def same_as_to_json(same_as: SameAs) -> dict[str, Any]:
    """As it stands in records and headers."""
    return {"key": same_as.key, "location": same_as.location}


def same_as_from_json(data: Any) -> SameAs:
    """The inverse; raises as :func:`record_from_json`."""
    same_as: SameAs = _structure(data, SameAs, "the place of shared bytes")
    return same_as


def record_from_json(data: Mapping[str, Any]) -> BackupRecord:
    """The inverse of :func:`record_to_json`.

    Raises:
        VaultCorrupt: it isn't a backup record.
        VaultError: it has fields that this version doesn't know.
    """
    if (quick := _quick_record(data)) is not None:
        return quick
    record: BackupRecord = _structure(data, BackupRecord, "this backup record")
    return record


_RECORD_TEXTS = ("key", "etag", "sha256", "last_modified", "codec", "location")
_RECORD_NAMES = frozenset((*_RECORD_TEXTS, "size", "stored_size", "version_id", "attributes"))
_ATTRIBUTE_MAPS = frozenset(("metadata", "tags"))
_ATTRIBUTE_TEXTS = frozenset(one.name for one in fields(ObjectAttributes)) - _ATTRIBUTE_MAPS


def _quick_record(data: Any) -> BackupRecord | None:
    """A record that is just as it should be, in a fifth of the time; None: the converter finds out."""
    if type(data) is not dict or data.keys() != _RECORD_NAMES:
        return None
    version_id, size, stored_size = data["version_id"], data["size"], data["stored_size"]
    attributes = _quick_attributes(data["attributes"])
    if (
        attributes is None
        or not all(type(data[name]) is str for name in _RECORD_TEXTS)
        or type(size) is not int
        or type(stored_size) is not int
        or not (version_id is None or type(version_id) is str)
    ):
        return None
    return BackupRecord(
        key=data["key"],
        etag=data["etag"],
        size=size,
        sha256=data["sha256"],
        last_modified=time_from_text(data["last_modified"]),
        version_id=version_id,
        attributes=attributes,
        codec=data["codec"],
        stored_size=stored_size,
        location=data["location"],
    )


def _texts_by_name(value: Any) -> bool:
    return type(value) is dict and all(type(one) is str for pair in value.items() for one in pair)


def _quick_attributes(data: Any) -> ObjectAttributes | None:
    if type(data) is not dict:
        return None
    for name, value in data.items():
        if name in _ATTRIBUTE_TEXTS:
            right = type(value) is str
        else:
            right = name in _ATTRIBUTE_MAPS and _texts_by_name(value)
        if not right:
            return None
    return ObjectAttributes(**data)


def attributes_to_json(attributes: ObjectAttributes) -> dict[str, Any]:
    """Only what the store sent."""
    made: dict[str, Any] = _unstructure_attributes(attributes)
    return made


def attributes_from_json(data: Any) -> ObjectAttributes:
    """The inverse of :func:`attributes_to_json`; raises as :func:`record_from_json`."""
    if (quick := _quick_attributes(data)) is not None:
        return quick
    attributes: ObjectAttributes = _structure(data, ObjectAttributes, "these attributes")
    return attributes
