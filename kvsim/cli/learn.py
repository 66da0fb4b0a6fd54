"""``learn``: train a model of when blocks are asked for again, score it, and see what it looks at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.hits import capacities
from kvsim.cli.options import JsonOut, TraceFile, reads_traces, share, train_mode, whole
from kvsim.cli.usage import FlagError, Verbs
from kvsim.errors import WorkloadError
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.cli.learn_scores import Score
    from kvsim.learned import Training
    from kvsim.policy.eviction import Eviction
    from kvsim.workload.accesses import Accesses

learn_app = typer.Typer(
    cls=Verbs, help="Train and judge models for eviction.", rich_markup_mode=None, add_completion=False
)

FRACTIONS = "0.5,0.2"


def fractions(text: str) -> str:
    """Two shares of the prompts, which leave some over."""
    try:
        train, tune = (float(each) for each in text.split(","))
    except ValueError:
        train, tune = 0.0, 0.0
    if not (train > 0 and tune >= 0 and train + tune < 1):
        raise typer.BadParameter(f"{text!r}; allowed: TRAIN,TUNE with TRAIN > 0, TUNE >= 0 and a sum < 1")
    return text


def start(text: str) -> float:
    """A share from 0 on, below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise typer.BadParameter(f"{text!r}; allowed: a number >= 0 and < 1")
    return value


ModelFile = Annotated[
    Path | None, typer.Option("--model", metavar="MODEL", help="A model file; default: the one that kvsim ships.")
]
Capacities = Annotated[
    str | None,
    typer.Option(
        "--capacity-blocks", metavar="N,N", parser=capacities, help="Blocks of the cache; default: 1,000 to 50,000."
    ),
]


@learn_app.callback(invoke_without_command=True)
def learn(ctx: typer.Context) -> None:
    """Train and judge models for eviction."""
    if ctx.invoked_subcommand is None:
        raise FlagError("learn: a command is missing; known: evaluate, explain, train")


@learn_app.command()
@reads_traces
def train(
    file: TraceFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model to write, text.")],
    mode: Annotated[
        str, typer.Option(metavar="MODE", parser=train_mode, help="split: score the rest; warmup: the whole run.")
    ] = "split",
    parts: Annotated[
        str | None,
        typer.Option("--fractions", metavar="X,X", parser=fractions, help="Train on, tune on; default: 0.5,0.2."),
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(metavar="X", parser=share, help="Train on; nothing is set aside to tune on.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", parser=whole, help="Of the training's draws.")] = 0,
    capacity_blocks: Capacities = None,
    also: Annotated[
        list[Path] | None, typer.Option("--also", metavar="FILE", help="Score on this trace too; repeatable.")
    ] = None,
    *,
    reading: Reading,
) -> int:
    """Train on the first part of a trace, score on the rest; writes MODEL and, beside it, its card in Markdown.

    With --mode warmup the model is what a run that learns from its own first prompts comes to, and is scored over the
    whole run: LRU until then, the model afterwards.
    """
    from kvsim.cli.learn_card import card, check_free
    from kvsim.cli.outputs import check_file
    from kvsim.learned import Parts, train_on
    from kvsim.learned.card import card_path
    from kvsim.report.atomic import replacing
    from kvsim.workload.accesses import read_accesses

    taken = {"the trace": file, **{f"the trace {path}": path for path in also or ()}}
    check_file("--output", output, taken, "model")
    check_free(output, {**taken, "the model": output})
    first, second = _fractions(mode, parts, fraction)
    accesses = read_accesses(file, reading)
    others = [(path, read_accesses(path, reading)) for path in also or ()]
    if mode == "split":
        _check_scored(file, accesses, Parts.of(len(accesses.time_s), first, second).score)
    training = train_on(accesses, first, second, seed)
    sizes = _sizes(capacity_blocks)
    sys.stdout.write(_trained(training))
    scores = _online(accesses, training, sizes, seed) if mode == "warmup" else _scores(accesses, training, sizes)
    elsewhere = [(path, _scores(other, training, sizes, first_prompt=0)["warm"]) for path, other in others]
    recipe = f"--mode {mode} {_flags(first, second)} --seed {seed}{reading.flags}"
    for path, text in (
        (output, training.model.text()),
        (card_path(output), card(output, file, accesses, training, scores, elsewhere, recipe)),
    ):
        with replacing(path) as stream:
            stream.write(text.encode())
    sys.stdout.write(f"wrote {output} and {card_path(output)}\n")
    return 0


@learn_app.command()
@reads_traces
def evaluate(
    file: TraceFile,
    model: ModelFile = None,
    fraction: Annotated[
        float, typer.Option(metavar="X", parser=start, help="Score what comes after this share of the prompts.")
    ] = 0.7,
    capacity_blocks: Capacities = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Caches start empty there, instead of full of what was.")
    ] = False,
    json_out: JsonOut = None,
    *,
    reading: Reading,
) -> int:
    """Hit ratios of LRU, the best classic policy, the model and Belady on the part after the training."""
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        taken = {"the trace": file} if model is None else {"the trace": file, "the model": model}
        check_file("--json", json_out, taken, "JSON")
    from kvsim.learned import read_model
    from kvsim.policy.eviction.learned import Learned
    from kvsim.workload.accesses import read_accesses

    judge = read_model(model)
    accesses = read_accesses(file, reading)
    first = int(len(accesses.time_s) * fraction)
    _check_scored(file, accesses, first)
    scores = _print_scores(accesses, first, _sizes(capacity_blocks), lambda size: Learned(size, model=judge), cold=cold)
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, {"source": str(file), "model": judge.source, "first_prompt": first, "cold": cold,
                              "scores": [score.as_figures() for score in scores]})  # fmt: skip
    return 0


@learn_app.command()
def explain(model: ModelFile = None) -> int:
    """What a model looks at: the gain that each feature brings to its trees, and how often they split on it."""
    from kvsim.learned import read_model

    read = read_model(model)
    rows = read.importances()
    total = sum(gain for _, gain, _ in rows) or 1.0
    sys.stdout.write(f"{read.source}: {read.num_trees} trees\n{'feature':<24}{'gain':>14}{'share':>8}{'splits':>8}\n")
    for name, gain, splits in rows:
        sys.stdout.write(f"{name:<24}{gain:>14,.0f}{gain / total:>8.1%}{splits:>8,}\n")
    return 0


def _check_scored(file: Path, accesses: Accesses, first: int) -> None:
    """Raise ``WorkloadError`` where prompts from number ``first`` on ask for nothing."""
    if accesses.offsets[-1] == accesses.offsets[first]:
        raise WorkloadError(f"{file}: nothing to score from prompt {first:,} on: no hash ids there")


def _flags(first: float, second: float) -> str:
    """Flags that give these fractions again."""
    return f"--fractions {first:g},{second:g}" if second else f"--fraction {first:g}"


def _fractions(mode: str, parts: str | None, fraction: float | None) -> tuple[float, float]:
    if parts is not None and fraction is not None:
        raise FlagError("--fractions and --fraction exclude each other; give one")
    if fraction is not None:
        return fraction, 0.0
    if mode == "warmup":
        if parts is not None:
            raise FlagError("--mode warmup sets nothing aside to tune on; give --fraction instead of --fractions")
        return 0.2, 0.0
    first, second = (parts or FRACTIONS).split(",")
    return float(first), float(second)


def _sizes(given: str | None) -> list[int]:
    from kvsim.cli.learn_scores import CAPACITIES

    return list(dict.fromkeys(map(int, given.split(",")))) if given is not None else list(CAPACITIES)


def _trained(training: Training) -> str:
    text = f"{training.examples:,} examples of {training.parts.score:,} prompts, {training.trees} trees"
    if training.tuning_loss is None:
        return f"{text}\n"
    return f"{text}; loss on the tuning part {training.tuning_loss:.4f}, without a tree {training.baseline_loss:.4f}\n"


def _scores(
    accesses: Accesses, training: Training, sizes: list[int], first_prompt: int | None = None
) -> dict[str, list[Score]]:
    """On what the model has not seen, with caches that served what was before; and, unless that is nothing, cold."""
    from kvsim.policy.eviction.learned import Learned

    first = training.parts.score if first_prompt is None else first_prompt

    def learned(size: int) -> Eviction:
        return Learned(size, model=training.model)

    scores = {"warm": _print_scores(accesses, first, sizes, learned)}
    if first:
        scores["cold"] = _print_scores(accesses, first, sizes, learned, cold=True)
    return scores


def _online(accesses: Accesses, training: Training, sizes: list[int], seed: int) -> dict[str, list[Score]]:
    from kvsim.policy.eviction.learned_online import LearnedOnline

    return {"run": _print_scores(accesses, 0, sizes, lambda size: LearnedOnline(size, training.parts.score, seed))}


def _print_scores(
    accesses: Accesses, first_prompt: int, sizes: list[int], learned: Any, *, cold: bool = False
) -> list[Score]:
    from kvsim.cli.learn_scores import scored

    count = accesses.offsets[-1] - accesses.offsets[first_prompt]
    state = "empty at first" if cold or not first_prompt else f"warm from {first_prompt:,} prompts"
    sys.stdout.write(f"hit ratios of {count:,} accesses from prompt {first_prompt:,} on; caches {state}\n")
    sys.stdout.write(f"{'blocks':>8}{'lru':>9}{'classic':>9}  {'':<8}{'learned':>9}{'belady':>9}{'gap closed':>12}\n")
    scores = []
    for size in sizes:
        score = scored(accesses, first_prompt, size, learned, cold=cold)
        ratios = [hits / score.accesses for hits in (score.lru, score.classic, score.learned, score.belady)]
        closed = f"{score.gap_closed:.1%}" if score.gap_closed is not None else "-"
        sys.stdout.write(
            f"{size:>8,}{ratios[0]:>9.4f}{ratios[1]:>9.4f}  {score.classic_name:<8}"
            f"{ratios[2]:>9.4f}{ratios[3]:>9.4f}{closed:>12}\n"
        )
        sys.stdout.flush()
        scores.append(score)
    return scores
