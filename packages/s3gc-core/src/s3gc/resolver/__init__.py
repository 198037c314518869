"""From a column's value to every key that it could mean. See :class:`Resolver`."""

from s3gc.resolver._resolver import Reading, Resolver

__all__ = ["Reading", "Resolver"]
