"""Where cosignatures are kept: the options that name it, and the reading of what is there."""

import argparse
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from auditbot.reader.access.settings import COSIGNATURES, AccessPlace, access_place
from auditbot.reader.commands.options import CHAIN, Archive, open_place, reading_settings
from auditbot.reader.cosigning.notes import Cosigned
from auditbot.reader.cosigning.reading import read_cosigned
from common.config.environment import environment
from common.errors import ConfigError
from common.officers import OfficerKey, parse_officer_key

OPTION = "--cosignatures"


def officer_key(text: str) -> OfficerKey:
    """Return the key of an officer that somebody wrote down.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return parse_officer_key(text)
    except ValueError as error:
        message = f"“{text}” {error}."
        raise argparse.ArgumentTypeError(message) from None


def add_place_option(command: argparse.ArgumentParser, default: str) -> None:
    """Add where the cosignatures are."""
    command.add_argument(
        OPTION,
        metavar="URL",
        help="where cosignatures are kept: s3://BUCKET/PREFIX or file:DIRECTORY (default: as "
        f"{COSIGNATURES.file} in --home says, or {default})",
    )


def cosigning_place(arguments: argparse.Namespace) -> AccessPlace | None:
    """Return where cosignatures are kept, ``None`` if nobody says it.

    Raises:
        ConfigError: it is no place, or the file that says it cannot be used.
    """
    home: Path = arguments.home.expanduser()
    return access_place(
        arguments.cosignatures,
        home,
        reading_settings(arguments.config),
        environment(),
        OPTION,
        added=COSIGNATURES,
    )


async def read_parties(archive: Archive, arguments: argparse.Namespace) -> tuple[Cosigned, ...]:
    """Read what the parties that were named have cosigned, with the credentials that read archives.

    Raises:
        ConfigError: it is not clear where that is.
        TransientError, PermanentError: it cannot be read.
    """
    parties: list[OfficerKey] = arguments.cosigned_by
    if not parties:
        if arguments.cosignatures:
            raise ConfigError(f"Whose? With {OPTION} name each cosigner's key with --cosigned-by.")
        return ()
    distinct = dict.fromkeys(parties)
    where = cosigning_place(arguments)
    if where is None:
        return tuple([await read_cosigned(archive.place, party) for party in distinct])
    settings = reading_settings(arguments.config)
    place = open_place(
        where.url,
        structs.replace(
            where.s3,
            access_key_id=settings.access_key_id,
            secret_access_key=settings.secret_access_key,
        ),
        replace(
            where.origin,
            inherited=where.origin.inherited | {"access_key_id", "secret_access_key"},
            credentials=None if settings.access_key_id else CHAIN,
        ),
    )
    try:
        return tuple([await read_cosigned(place, party) for party in distinct])
    finally:
        await place.close()
