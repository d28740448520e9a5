"""How far each feed has read on the homeserver."""

from common.database.pool import Connection, Database


async def stored_token(database: Database, feed: str) -> str | None:
    """Return the token a feed stored last."""
    found = await database.fetchval("SELECT token FROM feed_token WHERE feed = $1", feed)
    return None if found is None else str(found)


async def store_token(connection: Connection, feed: str, token: str) -> None:
    """Store a token; what it acknowledges must be on disk already."""
    await connection.execute(
        "INSERT INTO feed_token (feed, token) VALUES ($1, $2)"
        " ON CONFLICT (feed) DO UPDATE SET token = excluded.token",
        feed,
        token,
    )
