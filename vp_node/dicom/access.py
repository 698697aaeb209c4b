"""Who may open an association, decided before negotiation."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from vp_node.config import Config


@dataclass(frozen=True)
class Refusal:
    """Why an association is rejected; `diagnostic` as in PS3.8 9.3.4 for source 1 (DUL service user)."""

    reason: str
    diagnostic: int


CALLED_NOT_RECOGNISED = 7
CALLING_NOT_RECOGNISED = 3


def refusal(config: Config, calling: str, called: str, address: str) -> Refusal | None:
    """None if the association may be opened.

    A peer is known by its AE title and its address together: a title alone is a name that anyone can use.
    """
    if called not in config.dicom.ae_titles:
        return Refusal("the called AE title is not one of this node's", CALLED_NOT_RECOGNISED)
    if config.dicom.accept_unknown_peers:
        return None
    titled = [peer for peer in config.peers if peer.ae_title == calling]
    if not titled:
        return Refusal("the calling AE title is no peer in the configuration", CALLING_NOT_RECOGNISED)
    allowed = [peer for peer in titled if peer.may_send]
    if not allowed:
        return Refusal("the peer is configured with may_send = false", CALLING_NOT_RECOGNISED)
    if not any(_has_address(peer.host, address) for peer in allowed):
        return Refusal("the peer called from an address that is not its own", CALLING_NOT_RECOGNISED)
    return None


def _has_address(host: str, address: str) -> bool:
    address = address.removeprefix("::ffff:")
    if host == address:
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):  # unknown, or no name that could be one
        return False
    return address in {str(entry[4][0]).removeprefix("::ffff:") for entry in found}
