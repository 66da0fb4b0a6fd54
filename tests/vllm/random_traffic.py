"""Random requests for the recorder of vLLM's decisions: kinds of traffic that share prefixes in different ways."""

import random
from typing import Any

Record = dict[str, Any]
Tokens = list[int]


class Traffic:
    """Random requests of one kind, as (arrival step, prompt, output) in order of arrival."""

    def __init__(self, rng: random.Random, kind: str, block: int, max_len: int) -> None:
        self.rng, self.kind, self.block, self.max_len = rng, kind, block, max_len
        self.systems = [self.tokens(rng.choice([2, 3, 5]) * block + rng.randrange(block)) for _ in range(3)]
        self.sessions: list[Tokens] = []
        self.sent: list[Tokens] = []

    def tokens(self, n: int) -> Tokens:
        return [self.rng.randrange(3, 1000) for _ in range(n)]

    def shared(self) -> list[Tokens]:
        """A system prompt with a tail of its own, or an earlier prompt once more."""
        if self.sent and self.rng.random() < 0.2:
            return [list(self.rng.choice(self.sent[-20:]))]
        return [self.rng.choice(self.systems) + self.tokens(self.rng.randrange(1, 6 * self.block))]

    def multi_turn(self) -> list[Tokens]:
        """The next turn of a session: all that was said, the generated tokens too, and a new question."""
        open_session = self.sessions and self.rng.random() < 0.75
        said = self.sessions.pop(self.rng.randrange(len(self.sessions))) if open_session else []
        return [said + self.tokens(self.rng.randrange(1, 4 * self.block))]

    def burst(self) -> list[Tokens]:
        """Equal prompts in one step."""
        prompt = self.tokens(self.rng.randrange(1, 9 * self.block))
        return [list(prompt) for _ in range(self.rng.randrange(2, 6))]

    def aligned(self) -> list[Tokens]:
        """Lengths at a block's edge, often behind a known prefix that ends at one."""
        prefix = self.rng.choice(self.sent)[: self.rng.randrange(1, 6) * self.block] if self.sent else []
        prompt = (prefix if self.rng.random() < 0.5 else []) + self.tokens(self.rng.randrange(1, 7) * self.block)
        edge = len(prompt) // self.block * self.block + self.rng.choice([-1, 0, 0, 0, 1])
        return [(prompt + self.tokens(1))[: max(edge, 1)]]

    def anything(self) -> list[Tokens]:
        """Any of the other kinds, or a prompt of any length."""
        kinds = [self.shared, self.multi_turn, self.burst, self.aligned, self.any_length]
        return self.rng.choice(kinds)()

    def any_length(self) -> list[Tokens]:
        return [self.tokens(self.rng.randrange(1, self.max_len))]

    def prompts(self) -> list[Tokens]:
        kinds = {"shared": self.shared, "sessions": self.multi_turn, "bursts": self.burst, "aligned": self.aligned}
        return kinds.get(self.kind, self.anything)()

    def output(self, prompt: Tokens) -> Tokens:
        """At least one token; only random traffic asks for more than `max_model_len` leaves room for."""
        block, rng = self.block, self.rng
        length = rng.choice([1, 1, 2, block - 1, block, block + 1, rng.randrange(1, 30), rng.randrange(1, 120)])
        past = rng.randrange(1, 9) if self.kind == "random" and rng.random() < 0.5 else 0
        return self.tokens(max(1, min(length, self.max_len - len(prompt) + past)))

    def requests(self, count: int, mean_gap: float) -> list[Record]:
        out: list[Record] = []
        step = 0.0
        while len(out) < count:
            step += self.rng.expovariate(1 / mean_gap)
            for whole in self.prompts():
                prompt = whole[: self.max_len - 1]
                output = self.output(prompt)
                self.sent.append(prompt)
                self.sessions.append(prompt + output)
                request = {"arrival_step": int(step), "id": f"r{len(out)}", "prompt_token_ids": prompt}
                out.append(request | {"output_token_ids": output, "priority": self.rng.randrange(3)})
        return out


def with_leavers(rng: random.Random, requests: list[Record]) -> list[Record]:
    """Some clients go so many steps (`stays_steps`) after their requests came, unless these are over by then."""
    for request in requests:
        if rng.random() < 0.4:
            request["stays_steps"] = rng.choice([0, 1, 2, 3, rng.randrange(12), rng.randrange(60)])
    return requests
