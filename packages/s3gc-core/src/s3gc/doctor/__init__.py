"""Every precondition of a cycle, looked at one by one: what is right, what isn't, and what to do about it."""

from s3gc.doctor._check import CHECKS, Check, Status
from s3gc.doctor._examine import examine

__all__ = ["CHECKS", "Check", "Status", "examine"]
