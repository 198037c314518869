"""What is known of a server's ways. Unknown until a probe has found out."""

from __future__ import annotations

import enum

from attrs import define


class Condition(enum.Enum):
    """What the server does with a conditional header."""

    UNKNOWN = "unknown"
    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "not implemented"  # the request fails, whatever the object is


@define
class Traits:
    """One server's ways, as far as known."""

    conditional_delete: Condition = Condition.UNKNOWN
    conditional_put: Condition = Condition.UNKNOWN
    counts_tags_on_get: bool = False  # proven: GET tells the number of tags
    counts_tags_on_head: bool = False
    has_tags: bool = True  # false: the server said that it has no tags at all
    md5_etags: bool = True  # false: proven that the ETag of a plain object isn't its MD5
    plus_is_space: bool = True  # in the encoded keys of a listing
