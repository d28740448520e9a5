"""Figures about the running process in the text format that Prometheus reads.

Nothing is counted twice: whoever knows a figure is asked for it when somebody looks.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from common.errors import UserError

Kind = Literal["gauge", "counter"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure's name and meaning; a counter's name ends in ``_total``."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A figure at this moment."""

    metric: Metric
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Source = Callable[[], Iterable[Sample]]
AskedSource = Callable[[], Awaitable[Iterable[Sample]]]
"""One that has to ask somebody else first; it must not raise."""


@dataclass
class Metrics:
    """Where the figures come from; replaced as a whole when the process starts over."""

    sources: Sequence[Source] = ()
    asked: Sequence[AskedSource] = ()

    async def text(self) -> str:
        """Return all figures of this moment."""
        samples = [sample for source in self.sources for sample in source()]
        for ask in self.asked:
            samples += await ask()
        by_metric: dict[Metric, list[Sample]] = {}
        for sample in samples:
            by_metric.setdefault(sample.metric, []).append(sample)
        lines = []
        for metric, samples in sorted(by_metric.items(), key=lambda item: item[0].name):
            lines.append(f"# HELP {metric.name} {_escaped(metric.meaning)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines.extend(_line(sample) for sample in samples)
        return "".join(f"{line}\n" for line in lines)


@asynccontextmanager
async def serving(metrics: Metrics, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve ``/metrics`` on an address of its own, if a port is given.

    Not on the address that the homeserver pushes to: that one may be behind a proxy for
    everybody, and its token lets the bearer push events.
    """
    if port is None:
        yield
        return

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            body=(await metrics.text()).encode(), headers={"Content-Type": CONTENT_TYPE}
        )

    application = web.Application()
    application.add_routes([web.get("/metrics", answer)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UserError(
            f"Steward cannot serve figures on {host} port {port} ({error.strerror or error}). "
            "Change metrics.listen_host or metrics.listen_port."
        ) from error


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in sample.labels.items())
    # Not in six digits: a count of millions goes up by one, too.
    value = sample.value
    figure = int(value) if float(value).is_integer() else value
    return f"{sample.metric.name}{f'{{{labels}}}' if labels else ''} {figure}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
