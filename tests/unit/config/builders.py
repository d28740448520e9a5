"""A configuration that can be used, to be spoilt in one place."""

AS_TOKEN = "as-token-nobody-may-see"
HS_TOKEN = "hs-token-nobody-may-see"
PICKLE_KEY = "pickle-key-nobody-may-see"

VALID = f"""\
homeserver:
  url: http://127.0.0.1:8008
  server_name: example.org
appservice:
  as_token: {AS_TOKEN}
  hs_token: {HS_TOKEN}
encryption:
  pickle_key: {PICKLE_KEY}
"""
"""Eight lines; what is appended begins in line 9."""
