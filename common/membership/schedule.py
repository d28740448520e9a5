"""Work that is due at regular times; the only user of apscheduler."""

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from common.inbox.signal import Signal


def notify_every(seconds: float, due: Signal) -> AsyncIOScheduler:
    """Raise a signal at regular times; the caller shuts the returned scheduler down."""

    async def notify() -> None:  # a coroutine: plain functions run in a thread
        due.notify()

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(notify, IntervalTrigger(seconds=seconds), coalesce=True)
    scheduler.start()
    return scheduler
