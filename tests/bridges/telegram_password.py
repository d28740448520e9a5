"""Two-step verification: the server's half of SRP.

Source: https://core.telegram.org/api/srp ("Two-factor authentication", "Checking the password").
"""

import os
from dataclasses import dataclass, field
from hashlib import sha256

from telethon.password import compute_digest
from telethon.tl import types

# The prime that Telegram itself uses; clients know it to be good.
PRIME = int(
    "C71CAEB9C6B1C9048E6C522F70F13F73980D40238E3E21C14934D037563D930F48198A0AA7C14058229493D22530F4DB"
    "FA336F6E0AC925139543AED44CCE7C3720FD51F69458705AC68CD4FE6B6B13ABDC9746512969328454F18FAF8C595F64"
    "2477FE96BB2A941D5BCD1D4AC8CC49880708FA9B378E3C4F3A9060BEE67CF9A4A4A695811051907E162753B56B0F6B41"
    "0DBA74D8A84B2A14B3144E0EF1284754FD17ED950D5965B4B9DD46582DB1178D169C6BC465B0D6FF9CA3928FEF5B9AE4"
    "E418FC15E83EBEA0F87FA9FF5EED70050DED2849F47BF959D956850CE929851F0D8115F635B105EE2E4E15D04B2454BF"
    "6F4FADF034B10403119CD8E3B92FCC5B",
    16,
)
SIZE = 256


def long_bytes(number):
    return number.to_bytes(SIZE, "big")


@dataclass
class Password:
    """A password that somebody set, and one attempt to prove that it is known."""

    words: str
    algo: object = field(
        default_factory=lambda: types.PasswordKdfAlgoSHA256SHA256PBKDF2HMACSHA512iter100000SHA256ModPow(
            salt1=os.urandom(8), salt2=os.urandom(16), g=3, p=long_bytes(PRIME)
        )
    )
    secret: int = field(default_factory=lambda: int.from_bytes(os.urandom(SIZE), "big"))

    @property
    def verifier(self):
        return int.from_bytes(compute_digest(self.algo, self.words), "big")

    @property
    def factor(self):
        return int.from_bytes(sha256(long_bytes(PRIME) + long_bytes(self.algo.g)).digest(), "big")

    @property
    def public(self):
        return (self.factor * self.verifier + pow(self.algo.g, self.secret, PRIME)) % PRIME

    def asked(self):
        return types.account.Password(
            has_password=True,
            current_algo=self.algo,
            srp_B=long_bytes(self.public),
            srp_id=1,
            new_algo=self.algo,
            new_secure_algo=types.SecurePasswordKdfAlgoUnknown(),
            secure_random=os.urandom(SIZE),
        )

    def is_proven_by(self, proof):
        ours = long_bytes(self.public)
        u = int.from_bytes(sha256(proof.A + ours).digest(), "big")
        base = int.from_bytes(proof.A, "big") * pow(self.verifier, u, PRIME)
        key = sha256(long_bytes(pow(base, self.secret, PRIME))).digest()
        of_prime = sha256(long_bytes(PRIME)).digest()
        of_base = sha256(long_bytes(self.algo.g)).digest()
        mixed = bytes(x ^ y for x, y in zip(of_prime, of_base, strict=True))
        salts = sha256(self.algo.salt1).digest() + sha256(self.algo.salt2).digest()
        return proof.M1 == sha256(mixed + salts + proof.A + ours + key).digest()
