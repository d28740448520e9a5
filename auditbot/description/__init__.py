"""What lies beside the records in every archive and explains them."""

from importlib.resources import files

from auditbot.pipeline.seal import root_of

_NAMES = ("README.txt", "schema/record-1.json", "sql/duckdb.sql", "sql/athena.sql")


def description(server_name: str) -> list[tuple[str, bytes]]:
    """Return key and body of each file that explains an archive."""
    root = root_of(server_name)
    return [(f"{root}{name}", files(__name__).joinpath(name).read_bytes()) for name in _NAMES]
