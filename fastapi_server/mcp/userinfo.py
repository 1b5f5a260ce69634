"""What stands before the host of a URL: a user and a password, which are nobody else's business."""

import re

USERINFO = re.compile(r"://(?P<whole>(?P<user>[^\s/?#@:]*)(?::(?P<password>[^\s/?#]*))?)@")


def without_userinfo(text: str) -> str:
    """A text with `***` for user and password in all its URLs."""
    return USERINFO.sub("://***@", text)
