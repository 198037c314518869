"""Credentials by botocore's provider chain: environment, profiles, SSO, web identity, instance metadata."""

from __future__ import annotations

import threading
from typing import Protocol

import botocore.exceptions
import botocore.session

from s3gc.errors import AccessDenied, ConfigError
from s3gc.stores.s3._signing import Credentials


class CredentialSource(Protocol):
    """Where the client gets its credentials from, anew for each request."""

    def current(self) -> Credentials:
        """Valid credentials. May block; is called in worker threads.

        Raises:
            AccessDenied: there are none.
        """


class StaticCredentials:
    """The same ones for ever."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def current(self) -> Credentials:
        return self._credentials


class BotocoreCredentials:
    """botocore finds them and renews them before they expire."""

    def __init__(self, session: botocore.session.Session) -> None:
        self._session = session
        self._lock = threading.Lock()

    def current(self) -> Credentials:
        try:
            with self._lock:  # the first look-up builds the chain, which isn't safe in several threads
                found = self._session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except botocore.exceptions.ProfileNotFound as error:
            raise ConfigError(str(error)) from None
        except botocore.exceptions.BotoCoreError as error:
            raise AccessDenied(f"the credentials could not be obtained: {error}") from None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise AccessDenied(
                "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, "
                "or run where a role is attached"
            )
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def open_session(profile: str | None) -> botocore.session.Session:
    """A session of our own (there is no shared one), for ``profile`` or the default."""
    return botocore.session.Session(profile=profile)


def session_setting(session: botocore.session.Session, name: str) -> str | None:
    """What the environment or the profile says: ``region``, ``ca_bundle`` (AWS_CA_BUNDLE).

    Raises:
        ConfigError: the profile doesn't exist.
    """
    try:
        found = session.get_config_variable(name)
    except botocore.exceptions.ProfileNotFound as error:
        raise ConfigError(str(error)) from None
    return str(found) if found else None
