"""What adminbot makes by chance for people to paste is a word in any command."""

import math
import re

from adminbot.chance import SystemDice


def test_a_new_token_can_be_pasted_into_a_command() -> None:
    dice = SystemDice()
    tokens = [dice.token(length) for length in (1, 2, 16, 64) for _ in range(500)]
    for token in tokens:
        assert re.fullmatch(r"[A-Za-z0-9]+", token), token
    assert {len(token) for token in tokens} == {1, 2, 16, 64}


def test_a_new_token_is_hard_to_guess() -> None:
    dice = SystemDice()
    signs = set("".join(dice.token(64) for _ in range(500)))
    assert 16 * math.log2(len(signs)) > 90
    assert len({dice.token() for _ in range(1000)}) == 1000
