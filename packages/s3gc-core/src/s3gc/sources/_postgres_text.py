"""How PostgreSQL's values travel: natively or printed. The direct read and change capture must agree."""

from __future__ import annotations

# Types whose binary form asyncpg gives back without loss; all others travel as PostgreSQL prints them,
# which is also how they come through logical decoding.
_SCALARS = ("text", "varchar", "bpchar", "name", "uuid", "bytea")
NATIVE = frozenset(_SCALARS) | {"_" + name for name in _SCALARS}
NATIVE_KEYS = frozenset({"int2", "int4", "int8", "text", "varchar", "uuid", "bytea"})

POSTGRES_TEXT = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""Settings that decide how values are printed: the direct read and change capture must print alike."""
