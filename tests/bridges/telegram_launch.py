"""Starts mautrix-telegram with the tests' data centre trusted; runs in the bridge's environment.

::

    python telegram_launch.py PUBLIC_KEY.pem ARGUMENTS OF THE BRIDGE …
"""

import runpy
import sys
from pathlib import Path

from telethon.crypto import rsa

rsa.add_key(Path(sys.argv.pop(1)).read_text(), old=False)
sys.argv[0] = "mautrix-telegram"
runpy.run_module("mautrix_telegram", run_name="__main__", alter_sys=True)
