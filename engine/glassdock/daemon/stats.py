"""Handlers for what containers use, and for changing what they may use: `docker stats` and `docker update`.

Interface: `stats`, `update`; `shown(container, reading, before)`: a reading in Docker's JSON.

Rules: the numbers are the kernel's, the shape is the one that Docker gives for the same version of control groups. A
container that does not run has the shape without numbers.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ContainerStats
"""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import Any

from aiohttp import web

from glassdock.containers.limits import Update
from glassdock.containers.model import Container
from glassdock.containers.stats import Reading
from glassdock.daemon import answers, views
from glassdock.daemon.answers import ENGINE, flag
from glassdock.errors import InvalidParameter
from glassdock.runtime.cgroup_stats import Operation, Stats

_BLOCK_IO = (
    "io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive",
    "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive",
)  # fmt: skip


async def stats(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/stats: a line a second, or one."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    stream, once = flag(request, "stream", True), flag(request, "one-shot")
    if stream and once:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    if not stream and (once or not container.state.running):
        return answers.json(shown(container, engine.stats.read(container), Reading()))
    before: Reading | None = None
    async with aclosing(engine.stats.watch(container.id)) as readings:
        if not stream:  # the second one: what was used is told by the difference
            async for reading in readings:
                if before is not None:
                    return answers.json(shown(container, reading, before))
                before = reading
            return answers.json(shown(container, Reading(), Reading()))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        async for reading in readings:
            await response.write(answers.encode(shown(container, reading, before or Reading())))
            before = reading
        await response.write_eof()
        return response


async def update(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/update."""
    asked = Update.parse(await answers.document(request))
    warnings = await request.app[ENGINE].containers.update(request.match_info["name"], asked)
    return answers.json({"Warnings": warnings or None})


def shown(container: Container, reading: Reading, before: Reading) -> dict[str, Any]:
    """A reading and the one before as Docker's StatsResponse."""
    stats = reading.stats or Stats()
    body = {
        "read": views.when(reading.taken),
        "preread": views.when(before.taken),
        "pids_stats": _pids(stats),
        "blkio_stats": _block_io(stats),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(reading),
        "precpu_stats": _cpu(before),
        "memory_stats": _memory(stats),
        "name": f"/{container.name}",
        "id": container.id,
    }
    return {**body, "networks": reading.networks} if reading.networks else body


def _cpu(reading: Reading) -> dict[str, Any]:
    cpu = (reading.stats or Stats()).cpu
    usage: dict[str, Any] = {"total_usage": cpu.total}
    if cpu.each:
        usage["percpu_usage"] = list(cpu.each)
    body: dict[str, Any] = {
        "cpu_usage": {**usage, "usage_in_kernelmode": cpu.system, "usage_in_usermode": cpu.user},
    }
    if reading.taken:
        body |= {"system_cpu_usage": reading.machine_time, "online_cpus": reading.processors}
    body["throttling_data"] = {
        "periods": cpu.periods,
        "throttled_periods": cpu.throttled_periods,
        "throttled_time": cpu.throttled_time,
    }
    return body


def _memory(stats: Stats) -> dict[str, Any]:
    """Version 1 has the most that was ever used; what is not limited is limited by the machine."""
    total = stats.memory.total
    if not stats.version:
        return {}
    body: dict[str, Any] = {"usage": total.usage}
    if stats.version == 1:
        body["max_usage"] = total.peak
    body["stats"] = stats.memory.details
    if total.failures:
        body["failcnt"] = total.failures
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    body["limit"] = total.limit if 0 <= total.limit < machine else machine
    return body


def _pids(stats: Stats) -> dict[str, int]:
    """Where there is no limit, Docker leaves it out on version 1, and says the largest number on version 2."""
    if not stats.version:
        return {}
    none = {} if stats.version == 1 else {"limit": (1 << 64) - 1}
    limit = {"limit": stats.pids.limit} if stats.pids.limit >= 0 else none
    return {"current": stats.pids.usage, **limit}


def _block_io(stats: Stats) -> dict[str, Any]:
    tables: dict[str, Any] = dict.fromkeys(_BLOCK_IO)
    if stats.version:
        tables["io_service_bytes_recursive"] = _operations(stats.block_io.moved)
        if stats.version == 1:
            tables |= {name: [] for name in _BLOCK_IO[1:]}
            tables["io_serviced_recursive"] = _operations(stats.block_io.done)
    return tables


def _operations(found: tuple[Operation, ...]) -> list[dict[str, Any]]:
    return [{"major": one.major, "minor": one.minor, "op": one.operation, "value": one.value} for one in found]
