"""Decisions to Avro, as fastavro writes them, without looking up again what many have in common.

A wave's decisions differ in user, contact, action and propensity. The rest is encoded once:
campaign, versions and times, the template's variables. The bytes are the same.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from schemas.records import Decision

__all__ = ["DecisionBytes"]

Pair = tuple[bytes, bytes]

MOST = 1024  # parts that are kept; then they are forgotten
_PROPENSITY = struct.Struct("<bd")
_NULL, _FIRST = b"\x00", b"\x02"  # of a union with null: its branches


class DecisionBytes:
    """Encodes decisions field by field, in the schema's order."""

    def __init__(self) -> None:
        self._parts: dict[Any, Pair] = {}
        self._variables: dict[int, tuple[Mapping[str, str], bytes]] = {}

    def encode(self, d: Decision) -> bytes:
        """The binary encoding of a decision, without a prefix.

        Raises
        ------
        AttributeError, OverflowError, TypeError, struct.error
            If a field has no value of its type.
        """
        contact, propensity = d.contact, d.propensity
        campaign, versions = self._part(
            _of_wave,
            d.campaign_id,
            d.campaign_version,
            d.wave,
            d.policy_version,
            d.encoder_version,
            d.decided_at_ms,
            d.expires_at_ms,
        )
        action, reason = self._part(_of_action, d.action, d.channel, d.reason)
        return b"".join(
            (
                _text(d.decision_id),
                campaign,
                _text(d.user_id),
                action,
                _NULL if contact is None else _FIRST + _text(contact),
                reason,
                _NULL if propensity is None else _PROPENSITY.pack(2, propensity),
                versions,
                self._of_variables(d.variables),
            )
        )

    def _part(self, encode: Callable[..., Pair], *values: Any) -> Pair:
        found = self._parts.get(values)
        if found is None:
            if len(self._parts) >= MOST:
                self._parts.clear()
            found = self._parts[values] = encode(*values)
        return found

    def _of_variables(self, variables: Mapping[str, str]) -> bytes:
        """By identity, with the mapping itself beside: a template's is the same for all users."""
        if not variables:
            return _map(variables)
        found = self._variables.get(id(variables))
        if found is None:
            if len(self._variables) >= MOST:
                self._variables.clear()
            found = self._variables[id(variables)] = variables, _map(variables)
        return found[1]


def _of_wave(
    campaign_id: str,
    version: int,
    wave: int,
    policy: int,
    encoder: str,
    decided_at_ms: int,
    expires_at_ms: int,
) -> Pair:
    """What all decisions of a wave's chunk have in common, before and behind what they have not."""
    return (
        _text(campaign_id) + _long(version) + _long(wave),
        _long(policy) + _text(encoder) + _long(decided_at_ms) + _long(expires_at_ms),
    )


def _of_action(action: str, channel: str | None, reason: str) -> Pair:
    """The action with its channel, and the reason."""
    return _text(action) + (_NULL if channel is None else _FIRST + _text(channel)), _text(reason)


def _map(values: Mapping[str, str]) -> bytes:
    """One block of all pairs, and the empty one that ends a map."""
    if not values:
        return _NULL
    pairs = b"".join(_text(name) + _text(value) for name, value in values.items())
    return _long(len(values)) + pairs + _NULL


def _text(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    return (_SHORT[size] if size < len(_SHORT) else _long(size)) + raw


def _long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first (Avro 1.11, binary encoding)."""
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(number)
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left & ~0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


_SHORT = [_long(size) for size in range(64)]
