"""What ``steward doctor`` asks auditbot: can the archive be kept where it is to be kept?"""

from auditbot.clamd import Clamd
from auditbot.pipeline.scan import ScannerAwayError
from auditbot.storage.open import open_store, probe
from common.checks import Finding, broken, fine, noted
from common.config.schema import Config
from common.errors import StewardError
from common.i18n import t


async def checks(config: Config) -> list[Finding]:
    """Return what is found out about the archive's destination, and the scanner if one is set."""
    return [*await _of_destination(config), *await _of_scanner(config)]


async def _of_scanner(config: Config) -> list[Finding]:
    address = config.auditbot.media_scanner
    if address is None or not config.auditbot.media:
        return []
    try:
        version = await Clamd(address).version()
    except ScannerAwayError as error:
        return [
            broken(
                t(
                    "The malware scanner at {address} does not work, so attachments wait: {reason}",
                    address=address,
                    reason=error,
                ),
                t(
                    "Start clamd, let Steward's account use its socket, or correct "
                    "auditbot.media_scanner."
                ),
            )
        ]
    return [
        fine(
            t(
                "The malware scanner at {address} answers: {version}.",
                address=address,
                version=version,
            )
        )
    ]


async def _of_destination(config: Config) -> list[Finding]:
    destination = config.auditbot.destination
    if destination is None:
        return [
            noted(
                t("The archive is switched off: auditbot exports nothing."),
                t("Set auditbot.destination to start it."),
            )
        ]
    fault = await probe_destination(config)
    if fault is None:
        return [
            fine(
                t(
                    "The archive at {destination} can be written, read and deleted, and an object "
                    "is never overwritten.",
                    destination=destination,
                )
            )
        ]
    return [
        broken(
            t("The archive at {destination} cannot be kept safely.", destination=destination),
            fault,
        )
    ]


async def probe_destination(config: Config) -> str | None:
    """Write, read and delete a tiny object; return what to mend, ``None`` if all is well."""
    settings = config.auditbot
    if settings.destination is None:
        return None
    try:
        store = open_store(settings.destination, settings.s3)
        try:
            result = await probe(store)
            await store.abilities()  # which says if a lock is wanted that cannot be had
        finally:
            await store.close()
    except StewardError as error:
        return str(error)
    if not result.create_only:
        return t(
            "{destination} lets an object be overwritten (it ignores If-None-Match): make sure "
            "that only one Steward writes there, or use another store.",
            destination=settings.destination,
        )
    return None
