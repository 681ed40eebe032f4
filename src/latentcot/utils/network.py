"""Whether the Hugging Face hub can be reached at all."""

import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

from latentcot.utils.display import say

SECONDS = 3
"""To wait for a connection."""


@cache
def use_cache_if_unreachable() -> None:
    """Let the hub's library read its cache alone where the hub cannot be reached, and say so.

    It would try again and again for half a minute, for each file that it asks for. Behind a proxy
    nothing is known, and nothing is changed.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return
    place = urlsplit(constants.ENDPOINT)
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout=SECONDS).close()
    except OSError as error:
        say(f"Note: {place.hostname} cannot be reached ({error}); its cache alone is used.")
        constants.HF_HUB_OFFLINE = True
