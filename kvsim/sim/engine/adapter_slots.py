"""Where an engine's LoRA adapters are: in a slot on the GPUs, in host memory, or on disk alone.

As vLLM's ``LRUCacheWorkerLoRAManager`` has it (``vllm/lora/worker_manager.py``): before each step every adapter of its
requests is brought into a slot, one after the other, while the GPU waits. Slots and copies in host memory are let go
the least recently used first, and whoever loses the copy loses the slot.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.plan.engine_settings import AdapterLoads

Homes = dict[int, dict[int, None]]
"""By adapter: the instances that have it in a slot, in the order in which it came."""


class AdapterSlots:
    """The adapters of one engine, which starts as a server that was given them all by name: it loads each in turn."""

    __slots__ = ("_homes", "_host", "_instance", "_loads", "_slots", "from_disk", "from_host", "lost_s")

    def __init__(self, loads: AdapterLoads) -> None:
        self._loads, self._instance = loads, 0
        self._homes: Homes = {}
        self._slots: dict[int, None] = {}
        """The least recently used first, here and below."""
        self._host: dict[int, None] = {}
        self.from_host = self.from_disk = 0
        """Loads into a slot from host memory, and from disk through it, while it serves."""
        self.lost_s = 0.0
        """Seconds by which steps were longer for them."""
        self.start()

    def start(self) -> None:
        """Begin as a server does that has nothing, and is given all adapters by name: nobody waits for that yet."""
        for adapter in list(self._slots):
            self._leave(adapter)
        self._host.clear()
        before = self.from_host, self.from_disk
        for adapter in range(self._loads.used):
            self._bring(adapter)
        self.from_host, self.from_disk = before

    def tell(self, homes: Homes, instance: int) -> None:
        """Let ``homes`` know from now on what this engine, ``instance``, has in its slots."""
        self._homes, self._instance = homes, instance
        for adapter in self._slots:
            homes.setdefault(adapter, {})[instance] = None

    def bring(self, adapters: Sequence[int]) -> float:
        """Have all of them in slots, which are as many as that at least; seconds that it takes."""
        took_s = 0.0
        for adapter in adapters:
            took_s += self._bring(adapter)
        self.lost_s += took_s
        return took_s

    def used(self, adapter: int) -> None:
        """A request of this adapter has run up to now."""
        if adapter in self._slots:
            del self._slots[adapter]
            self._slots[adapter] = None
        if adapter in self._host:
            del self._host[adapter]
            self._host[adapter] = None

    def _bring(self, adapter: int) -> float:
        loads = self._loads
        if adapter in self._slots:
            self.used(adapter)
            return 0.0
        took_s = loads.host_s
        if adapter in self._host:
            self.used(adapter)
            self.from_host += 1
        else:
            if len(self._host) >= loads.max_cpu_loras:
                oldest = next(iter(self._host))
                del self._host[oldest]
                self._leave(oldest)
            self._host[adapter] = None
            took_s += loads.disk_s
            self.from_disk += 1
        if len(self._slots) >= loads.max_loras:
            self._leave(next(iter(self._slots)))
        self._slots[adapter] = None
        self._homes.setdefault(adapter, {})[self._instance] = None
        return took_s

    def _leave(self, adapter: int) -> None:
        """Give up its slot, where it has one."""
        if adapter in self._slots:
            del self._slots[adapter]
            del self._homes[adapter][self._instance]
