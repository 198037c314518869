"""From a column's value to every key that it could mean. See :class:`Resolver`."""

from s3gc.resolver._resolver import Reading, Resolver
from s3gc.resolver._urls import Odd

__all__ = ["Odd", "Reading", "Resolver"]
