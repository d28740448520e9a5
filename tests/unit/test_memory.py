"""What a burst of large buffers took is given back to the machine."""

import subprocess
import sys

import pytest

_BURST = """
import sys
from pathlib import Path
if "set" in sys.argv:
    from common.memory import set_thresholds
    set_thresholds()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
bytes(20_000_000)  # after one that is so large, glibc keeps all that are smaller
kept = []
for _ in range(100):
    large = bytearray(400_000)
    kept.append(bytearray(1_000))  # something small that stays, behind it
    large[:] = b"x" * len(large)
    kept.append(large)
del kept[1::2]
print(resident() - before)
"""


def _left_over(*words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _BURST, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the thresholds are those of Linux's glibc")
def test_what_a_burst_of_buffers_took_is_given_back() -> None:
    assert _left_over("set") < _left_over() / 3
