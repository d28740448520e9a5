"""The arithmetic of verification by short authentication string (SAS).

Source: Matrix specification v1.18, client-server API, "Short Authentication String (SAS)
verification": method ``m.sas.v1`` with ``curve25519-hkdf-sha256``, ``sha256`` and
``hkdf-hmac-sha256.v2``. Pure.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import vodozemac

from common.crypto.canonical import canonical_json, unpadded
from common.crypto.port import DeviceAddress

METHOD = "m.sas.v1"
KEY_AGREEMENT = "curve25519-hkdf-sha256"
HASH = "sha256"
MAC = "hkdf-hmac-sha256.v2"
SHOWN_AS = ("decimal", "emoji")

_EMOJI = (
    ("🐶", "Dog"), ("🐱", "Cat"), ("🦁", "Lion"), ("🐎", "Horse"),
    ("🦄", "Unicorn"), ("🐷", "Pig"), ("🐘", "Elephant"), ("🐰", "Rabbit"),
    ("🐼", "Panda"), ("🐓", "Rooster"), ("🐧", "Penguin"), ("🐢", "Turtle"),
    ("🐟", "Fish"), ("🐙", "Octopus"), ("🦋", "Butterfly"), ("🌷", "Flower"),
    ("🌳", "Tree"), ("🌵", "Cactus"), ("🍄", "Mushroom"), ("🌏", "Globe"),
    ("🌙", "Moon"), ("☁️", "Cloud"), ("🔥", "Fire"), ("🍌", "Banana"),
    ("🍎", "Apple"), ("🍓", "Strawberry"), ("🌽", "Corn"), ("🍕", "Pizza"),
    ("🎂", "Cake"), ("❤️", "Heart"), ("😀", "Smiley"), ("🤖", "Robot"),
    ("🎩", "Hat"), ("👓", "Glasses"), ("🔧", "Spanner"), ("🎅", "Santa"),
    ("👍", "Thumbs Up"), ("☂️", "Umbrella"), ("⌛", "Hourglass"), ("⏰", "Clock"),
    ("🎁", "Gift"), ("💡", "Light Bulb"), ("📕", "Book"), ("✏️", "Pencil"),
    ("📎", "Paperclip"), ("✂️", "Scissors"), ("🔒", "Lock"), ("🔑", "Key"),
    ("🔨", "Hammer"), ("☎️", "Telephone"), ("🏁", "Flag"), ("🚂", "Train"),
    ("🚲", "Bicycle"), ("✈️", "Aeroplane"), ("🚀", "Rocket"), ("🏆", "Trophy"),
    ("⚽", "Ball"), ("🎸", "Guitar"), ("🎺", "Trumpet"), ("🔔", "Bell"),
    ("⚓", "Anchor"), ("🎧", "Headphones"), ("📁", "Folder"), ("📌", "Pin"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShortString:
    """What both sides show: seven emoji, or three numbers."""

    emoji: tuple[tuple[str, str], ...]
    decimals: tuple[int, int, int]

    def __str__(self) -> str:
        return " ".join(f"{sign} {name}," for sign, name in self.emoji).rstrip(",")

    @property
    def numbers(self) -> str:
        """The three numbers in one line."""
        return " ".join(str(number) for number in self.decimals)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A finished key exchange: who started, who accepted, each with the key they sent."""

    starter: DeviceAddress
    starter_key: str
    accepter: DeviceAddress
    accepter_key: str
    transaction_id: str
    established: vodozemac.EstablishedSas

    def short_string(self) -> ShortString:
        """Return what both sides have to compare ("HKDF calculation")."""
        info = "|".join(
            (
                "MATRIX_KEY_VERIFICATION_SAS",
                *self.starter,
                self.starter_key,
                *self.accepter,
                self.accepter_key,
                self.transaction_id,
            )
        )
        shared = self.established.bytes(info)
        first, second, third = shared.decimals
        emoji = tuple(_EMOJI[index] for index in shared.emoji_indices)
        return ShortString(emoji, (first, second, third))

    def mac_content(self, sender: DeviceAddress, keys: Mapping[str, str]) -> dict[str, Any]:
        """Return ``mac`` and ``keys`` of the ``m.key.verification.mac`` that a side sends."""
        mac = {
            key_id: self.established.calculate_mac(key, self._mac_info(sender, key_id))
            for key_id, key in keys.items()
        }
        listed = ",".join(sorted(keys))
        return {
            "mac": mac,
            "keys": self.established.calculate_mac(listed, self._mac_info(sender, "KEY_IDS")),
        }

    def is_mac(self, sender: DeviceAddress, key_id: str, value: str, tag: object) -> bool:
        """Whether an untrusted MAC is that side's word for this value."""
        if not isinstance(tag, str):
            return False
        expected = self.established.calculate_mac(value, self._mac_info(sender, key_id))
        return hmac.compare_digest(expected.encode(), tag.rstrip("=").encode())

    def _mac_info(self, sender: DeviceAddress, key_id: str) -> str:
        receiver = self.accepter if sender == self.starter else self.starter
        return "".join(
            ("MATRIX_KEY_VERIFICATION_MAC", *sender, *receiver, self.transaction_id, key_id)
        )


def commitment(public_key: str, start: Mapping[str, Any]) -> str:
    """Return the accepter's commitment to its key; raise ``NotCanonicalError`` on odd content."""
    return unpadded(hashlib.sha256(public_key.encode() + canonical_json(start)).digest())
