"""Cutting keeps every record in order and within bounds; sealing keeps every byte."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.pipeline.seal import compress, object_key, path_safe
from auditbot.pipeline.segment import DAY_MS, Limits, Line, Segment, cut, due_ms, is_old
from auditbot.reader.unpack import lines as unpack

line_facts = st.tuples(
    st.integers(1, 50),
    st.sampled_from([0, 0, 0, 5, DAY_MS]),
    st.sampled_from([0, 0, 1, 400]),
)
limits_ = st.builds(Limits, max_bytes=st.integers(1, 100), max_age_ms=st.integers(1, 1000))


def build(facts: list[tuple[int, int, int]]) -> list[Line]:
    received = written = 0
    found = []
    for seq, (size, wait, work) in enumerate(facts, start=3):
        received += wait
        written += work
        found.append(Line(seq, size, received, written))
    return found


@given(facts=st.lists(line_facts, max_size=40), limits=limits_, flush=st.booleans())
def test_cutting_keeps_every_record_in_order(
    facts: list[tuple[int, int, int]], limits: Limits, *, flush: bool
) -> None:
    lines = build(facts)

    segments = cut(lines, limits, now_ms=lines[-1].written_ms if lines else 0, flush=flush)

    covered = [seq for part in segments for seq in range(part.first_seq, part.last_seq + 1)]
    assert covered == [line.seq for line in lines][: len(covered)]
    if flush:
        assert len(covered) == len(lines)
    by_seq = {line.seq: line for line in lines}
    for part in segments:
        held = [by_seq[seq] for seq in range(part.first_seq, part.last_seq + 1)]
        assert part.size == sum(line.size for line in held)
        assert part.size <= limits.max_bytes or part.count == 1
        assert {line.day for line in held} == {part.day}
        assert all(line.written_ms - held[0].written_ms < limits.max_age_ms for line in held)


@given(facts=st.lists(line_facts, min_size=1, max_size=30), limits=limits_, at=st.integers(1, 29))
def test_a_cut_does_not_depend_on_when_it_is_made(
    facts: list[tuple[int, int, int]], limits: Limits, at: int
) -> None:
    lines = build(facts)
    end = lines[-1].written_ms

    early = cut(lines[:at], limits, now_ms=lines[:at][-1].written_ms)
    rest = [line for line in lines if not early or line.seq > early[-1].last_seq]
    later = cut(rest, limits, now_ms=end, flush=True)

    assert early + later == cut(lines, limits, now_ms=end, flush=True)


def test_a_segment_waits_until_it_is_old() -> None:
    limits = Limits(max_bytes=1000, max_age_ms=300)
    lines = [Line(0, 10, 0, 0), Line(1, 10, 100, 100)]

    assert cut(lines, limits, now_ms=299) == []
    assert cut(lines, limits, now_ms=300) == [Segment(0, 1, 0, 20)]


def test_the_end_of_a_utc_day_closes_a_segment() -> None:
    limits = Limits(max_bytes=1000, max_age_ms=DAY_MS * 2)

    assert due_ms(DAY_MS - 5, limits) == DAY_MS
    assert is_old(DAY_MS - 5, limits, DAY_MS)
    assert not is_old(DAY_MS - 5, limits, DAY_MS - 1)


def test_a_clock_that_was_set_back_keeps_nothing_open() -> None:
    assert is_old(1_000_000, Limits(max_bytes=1, max_age_ms=300), 0)


def test_objects_are_named_by_stream_and_first_number() -> None:
    segment = Segment(first_seq=42, last_seq=43, day=20_000, size=1)

    key = object_key("example.org:8448", "20251124T120000Zabc", segment)

    assert key == (
        "v1/example.org_8448/events/dt=2024-10-04/20251124T120000Zabc-000000000042.jsonl.zst"
    )


@given(name=st.text(max_size=30))
def test_a_server_name_is_one_harmless_step_of_a_path(name: str) -> None:
    safe = path_safe(name)

    assert safe.isascii()
    assert "/" not in safe
    assert not safe.startswith(".")
    assert safe


@given(
    frames=st.lists(
        st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\n", b"")), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_frames_read_back_as_one_file(frames: list[list[bytes]]) -> None:
    body = b"".join(compress(line + b"\n" for line in frame) for frame in frames)

    assert list(unpack("key", body)) == [line for frame in frames for line in frame]


@pytest.mark.skipif(shutil.which("zstdcat") is None, reason="zstdcat is not installed")
def test_the_plain_zstd_tool_reads_a_body_of_many_frames(tmp_path: Path) -> None:
    file = tmp_path / "a.zst"
    file.write_bytes(compress([b"1\n", b"2\n"]) + compress([b"3\n"]))

    done = subprocess.run(["zstdcat", str(file)], capture_output=True, check=True)

    assert done.stdout == b"1\n2\n3\n"
