"""What a prompt's KV is on the wire, where layers with a window send no more than what it holds."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings


class KvBytes:
    """Bytes of a prompt's tokens. Sums over parts of a prompt are the whole's."""

    __slots__ = ("_block_size", "_is_chunk", "_per_token", "_window_tokens", "_windowed_share")

    def __init__(self, per_token: float, settings: EngineSettings, windowed_share: float) -> None:
        """``per_token``: bytes of a token in all layers; ``windowed_share``: of the layers those that ``settings`` have
        groups with a window for.
        """
        self._per_token, self._block_size = per_token, settings.block_size
        self._window_tokens, self._is_chunk, self._windowed_share = 0, False, 0.0
        for group in settings.kv_groups:
            if group.tokens:
                self._window_tokens, self._is_chunk = group.tokens, group.kind == "chunk"
                self._windowed_share = windowed_share

    def of(self, tokens: float, first: float, prompt_tokens: int) -> float:
        """Bytes of ``tokens`` from ``first`` on, of a prompt of ``prompt_tokens`` that is sent once it is computed:
        blocks that are wholly behind the window have been freed by then.
        """
        if not self._windowed_share:
            return tokens * self._per_token
        if self._is_chunk:
            behind = prompt_tokens // self._window_tokens * self._window_tokens
        else:
            behind = max(0, prompt_tokens - self._window_tokens + 1)
        kept_from = behind // self._block_size * self._block_size
        kept = max(0.0, min(first + tokens, float(prompt_tokens)) - max(first, float(kept_from)))
        return self._per_token * (tokens - self._windowed_share * (tokens - kept))
