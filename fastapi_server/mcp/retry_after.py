"""For how long a server wants to be left alone."""

import datetime as dt
import email.utils
from collections.abc import Mapping


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of `Retry-After` (RFC 9110, 10.2.3); `None` where the server does not say.

    Args:
        headers: Of the response; names in any case.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())
