"""Figures are served in the form that Prometheus reads, on an address of their own."""

import aiohttp
import pytest

from common.demo.servers import free_port
from common.errors import UserError
from common.telemetry.metrics import Metric, Metrics, Sample, serving

KEYS = Metric("steward_keys", "gauge", "Keys\nleft.")
USES = Metric("steward_uses_total", "counter", "Uses.")


async def test_figures_of_several_sources_stand_under_one_heading() -> None:
    async def asked() -> list[Sample]:
        return [Sample(USES, 1_234_567, {"asked": "yes"})]

    metrics = Metrics(
        [
            lambda: [Sample(USES, 2), Sample(KEYS, 1500.0, {"account": "@a:x"})],
            lambda: [Sample(KEYS, 0.5, {"account": 'b"\\\n'})],
        ],
        [asked],
    )

    assert await metrics.text() == (
        "# HELP steward_keys Keys\\nleft.\n"
        "# TYPE steward_keys gauge\n"
        'steward_keys{account="@a:x"} 1500\n'
        'steward_keys{account="b\\"\\\\\\n"} 0.5\n'
        "# HELP steward_uses_total Uses.\n"
        "# TYPE steward_uses_total counter\n"
        "steward_uses_total 2\n"
        'steward_uses_total{asked="yes"} 1234567\n'
    )


async def test_they_are_served_only_where_a_port_is_given() -> None:
    port = free_port()
    metrics = Metrics([lambda: [Sample(USES, 1)]])
    async with aiohttp.ClientSession() as session, serving(metrics, "127.0.0.1", port):
        async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "steward_uses_total 1\n" in await response.text()

        with pytest.raises(UserError, match=r"metrics\.listen_port"):
            async with serving(metrics, "127.0.0.1", port):
                pass

    async with serving(metrics, "127.0.0.1", None):
        pass
