"""The command `tidegate`: its arguments. What the commands do is in `_commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

try:
    from cyclopts import App, Group, Parameter
    from cyclopts.validators import Number
    from rich.console import Console
    from rich.text import Text
except ModuleNotFoundError as missing:
    sys.exit(f"the command line needs the package {missing.name}: pip install 'tidegate[cli]'")

from . import __version__
from ._commands import guarded
from .errors import InputError


def _shown(default: object) -> str | None:
    """A default as the help shows it; a switch that is off says nothing, nor does no default."""
    return None if default is None or default is False else str(default)


def _one_line(error: Exception) -> Text:
    """What is wrong with the arguments, as any other error is said."""
    return Text(" ".join(["tidegate:", *str(error).split()]))


app = App(
    name="tidegate",
    help="Gated recurrent units: train them fast, run them anywhere, look inside them.",
    help_epilogue="Start with: tidegate demo",
    help_format="markdown",
    version=__version__,
    error_formatter=_one_line,
    error_console=Console(stderr=True, soft_wrap=True),
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=_shown),
)
app.meta.suppress_keyboard_interrupt = False

_FILE, _RESULTS, _FORMAT, _CLUSTER, _TROUBLE = map(
    Group.create_ordered,
    ("The file", "Results", "What a file does not say", "A cluster", "In trouble"),
)

Debug = Annotated[bool, Parameter(help="Show where in the program an error arose.", group=_TROUBLE)]
Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
Count = Annotated[int, Parameter(validator=Number(gte=1))]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**32))]
Percent = Annotated[float, Parameter(validator=Number(gt=0, lt=100))]
Folder = Annotated[Path, Parameter(group=_RESULTS)]
Column = Annotated[str | None, Parameter(group=_FILE)]
Columns = Annotated[tuple[str, ...], Parameter(group=_FILE, consume_multiple=True)]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 for bad input and 130 after Ctrl-C."""
    return guarded(app.meta, sys.argv[1:] if tokens is None else tokens)


@app.meta.default
def _launch(*tokens: Tokens, debug: Debug = False) -> None:
    app(tokens, result_action="return_value")


@app.command
def demo(
    *,
    all: bool = False,
    series: Count | None = None,
    seed: Seed = 0,
    out: Folder = Path("tidegate-demo"),
) -> None:
    """Forecast the M3 competition's 1,428 monthly series, and compare with simple methods.

    Trains one network on all series, which takes about a minute on two cores, and writes the
    forecasts, the model, a picture and the measures.

    Args:
        all: Compare with AutoETS too, which takes minutes.
        series: Use only the first so many series, for a quick look.
        seed: Where the random numbers of the training start.
        out: The folder for the results.
    """
    from ._commands.demo import run_demo

    run_demo(out, seed, all, series)


@app.command(usage="Usage: tidegate forecast [OPTIONS] FILE")
def forecast(
    file: str | None = None,
    /,
    *,
    horizon: Count | None = None,
    model: Path | None = None,
    levels: Annotated[tuple[Percent, ...] | None, Parameter(consume_multiple=True)] = None,
    quick: bool = False,
    skip: bool = False,
    seed: Seed = 0,
    id: Column = None,
    time: Column = None,
    target: Column = None,
    freq: Column = None,
    static: Columns = (),
    past: Columns = (),
    ahead: Columns = (),
    future: Annotated[Path | None, Parameter(group=_FILE)] = None,
    holidays: Column = None,
    tune: Count | None = None,
    storage: Annotated[str | None, Parameter(group=_CLUSTER)] = None,
    ray: Annotated[
        tuple[str, ...] | None, Parameter(group=_CLUSTER, consume_multiple=(0, 2))
    ] = None,
    workers: Annotated[Count | None, Parameter(group=_CLUSTER)] = None,
    gpus: Annotated[bool, Parameter(group=_CLUSTER)] = False,
    tensorboard: Annotated[Path | None, Parameter(group=_RESULTS)] = None,
    resume: Annotated[bool, Parameter(group=_TROUBLE)] = False,
    out: Folder = Path("tidegate-forecast"),
) -> None:
    """Forecast the series in a file.

    Trains one network on all of them, or takes a saved one, and writes forecasts with bands.

    Args:
        file: A table in long format, CSV or Parquet: one row for each series and time stamp. Or a
            data set that ships: us_employment, weather. Or a folder of Parquet files, each sorted
            by series, or its address (s3://bucket/folder): of any size, read part by part.
        horizon: How many steps to forecast; needed unless a model is given.
        model: Forecast with this saved model; nothing is trained.
        levels: Bands to forecast, in percent of the values that they shall hold: 50 80 95.
        quick: Do not compare with the naive forecast on held-back steps; takes half the time.
        skip: Leave out series that are constant or shorter than the horizon, instead of stopping.
        seed: Where the random numbers of the training start.
        id: The column that tells series apart: unique_id. Without it, the file is one series.
        time: The column of time stamps, dates or whole numbers: ds.
        target: The column to forecast: y.
        freq: The calendar, such as MS, W-SUN, D, B or 15min, or irregular to take time stamps as
            they come; found from the time stamps.
        static: Columns with one value a series that the network is to read, such as region.
        past: Columns that are known until now.
        ahead: Columns that are known ahead too; --future gives them.
        future: A table with the time stamps to forecast and the columns that are known ahead.
        holidays: A country whose holidays the network is to read, such as DE.
        tune: Try so many settings on the ends of the series and keep the best (needs optuna). The
            search is kept beside the results, and goes on from there when run again.
        storage: Where the search of --tune is kept instead: a file, or the address of a database
            that several machines search with together, postgresql+psycopg://user@host/name.
        ray: Train and forecast a folder on the Ray cluster at this address; without one, on that
            of this machine, or on this machine alone (needs ray). FILE may follow the address.
        workers: With --ray, how many machines or processes are to train, at most.
        gpus: With --ray, train on the GPUs of the cluster.
        tensorboard: A folder for the losses, as TensorBoard reads them.
        resume: Go on with a folder where a run of the same command ended or was killed.
        out: The folder for the forecasts, the model and the picture.
    """
    source, address = _source_and_address(file, *(ray or ()))
    from ._commands.forecast import Request, run_forecast

    run_forecast(
        Request(
            source=source,
            out=out,
            horizon=horizon,
            model=model,
            id=id,
            time=time,
            target=target,
            freq=freq,
            levels=levels,
            seed=seed,
            quick=quick,
            skip=skip,
            static=static,
            past=past,
            ahead=ahead,
            future=future,
            holidays=holidays,
            tune=tune,
            storage=storage,
            tensorboard=tensorboard,
            resume=resume,
            ray=ray is not None,
            address=address,
            workers=workers,
            gpus=gpus,
        )
    )


def _source_and_address(file: str | None, *after_ray: str) -> tuple[str, str | None]:
    """FILE --ray [ADDRESS], or --ray [ADDRESS] FILE."""
    words = list(after_ray)
    if file is None and words:
        file = words.pop()
    if file is None:
        raise InputError("say which file to forecast: tidegate forecast sales.csv --horizon 12")
    if len(words) > 1:
        raise InputError(f"--ray takes one address, got {' and '.join(words)}")
    return file, words[0] if words else None


language = App(
    name="language", help="Train a language model, let it write, and let it weigh sentences."
)
app.command(language)
Positive = Annotated[float, Parameter(validator=Number(gt=0))]
Share = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]
Kind = Literal["characters", "bytes", "words", "subwords"]


@language.command(name="train")
def language_train(
    corpus: Path,
    /,
    *,
    out: Annotated[Path, Parameter(group=_RESULTS)],
    tokens: Kind = "characters",
    vocab_size: Count | None = None,
    normalize: Literal["nfc", "persian"] | None = None,
    lines: bool = False,
    validation: Path | None = None,
    hidden: Annotated[tuple[Count, ...], Parameter(consume_multiple=True)] = (256,),
    layers: Count = 1,
    embedding: Count | None = None,
    cell: Literal["gru", "mingru", "lstm", "rnn"] = "gru",
    untied: bool = False,
    dropout: Share = 0.1,
    recurrent_dropout: Share = 0.0,
    weight_dropout: Share = 0.0,
    context: Count = 100,
    batch: Count = 32,
    epochs: Positive = 10.0,
    steps: Count | None = None,
    learning_rate: Positive = 3e-3,
    patience: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    seed: Seed = 0,
    checkpoint: Annotated[Path | None, Parameter(group=_TROUBLE)] = None,
) -> None:
    """Train a language model on a text file, and write it to one file.

    Shows perplexity, bits per character and a sample of its writing as it learns.

    Args:
        corpus: A text in UTF-8, of any size.
        out: The file for the model, such as poems.safetensors.
        tokens: What text is cut into.
        vocab_size: Most tokens; all characters, 10,000 words or 4,000 subwords when not given.
        normalize: Compose characters (nfc), and write ی and ک for ي and ك too (persian).
        lines: Each line stands by itself.
        validation: A text to validate on, in place of the last tenth of the corpus.
        hidden: Units; several numbers are those of each layer.
        layers: Recurrent layers.
        embedding: Features of a token; as many as the last layer has units when not given.
        cell: The recurrent layer; lstm and rnn are torch's, for comparison.
        untied: Give the scores a matrix of their own.
        dropout: Between layers and before the scores.
        recurrent_dropout: Of units where they meet the recurrent weights.
        weight_dropout: Of recurrent weights.
        context: Steps through which gradients go back.
        batch: Rows that are read in parallel.
        epochs: How often the corpus is read.
        steps: Chunks to learn from, in place of epochs.
        learning_rate: The highest.
        patience: Stop after so many validations without a better one; 0 never stops.
        seed: Where all random numbers start.
        checkpoint: Keep the state of training here while it lasts; a run that finds it goes on.
    """
    from ._commands.language import Training, run_train

    options = {
        "tokens": tokens,
        "vocab_size": vocab_size,
        "normalize": normalize,
        "lines": lines,
        "hidden_size": hidden[0] if len(hidden) == 1 else hidden,
        "num_layers": layers,
        "embedding_size": embedding,
        "cell": cell,
        "tied": not untied,
        "dropout": dropout,
        "recurrent_dropout": recurrent_dropout,
        "weight_dropout": weight_dropout,
        "context_length": context,
        "batch_size": batch,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "patience": patience,
        "seed": seed,
    }
    run_train(Training(corpus, out, validation, checkpoint, options))


@language.command(name="sample")
def language_sample(
    model: Path,
    /,
    *,
    prompt: str = "",
    length: Count = 300,
    temperature: Annotated[float, Parameter(validator=Number(gte=0))] = 0.8,
    top_k: Count | None = None,
    top_p: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))] = None,
    beam: Count | None = None,
    seed: Seed = 0,
) -> None:
    """Let a model write; it needs no torch.

    Args:
        model: A file that `tidegate language train` wrote.
        prompt: How the text begins.
        length: Tokens to add.
        temperature: Below 1 the likely becomes likelier; at 0 the best token is always taken.
        top_k: Take one of so many best tokens.
        top_p: Take one of the fewest best tokens that together have this probability.
        beam: In place of one drawn text, the likeliest that so many beams find.
        seed: Where the random numbers start; same seed, same text.
    """
    from ._commands.language import run_beam, run_sample

    if beam is not None:
        run_beam(model, prompt, beam, length)
    else:
        run_sample(model, prompt, length, temperature, top_k, top_p, seed)


@language.command(name="score")
def language_score(model: Path, file: Path, /, *, each: bool = False, whole: bool = False) -> None:
    """Print how likely a model finds each line of a file; it needs no torch.

    Args:
        model: A file that `tidegate language train` wrote.
        file: A text in UTF-8.
        each: Print every token with the logarithm of its probability.
        whole: Read the file as one text: perplexity, and bits per character.
    """
    from ._commands.language import run_score

    run_score(model, file, each, whole)


@app.command
def convert(
    source: Path,
    target: Path,
    /,
    *,
    dtype: Literal["float32", "bfloat16", "int8"] | None = None,
    check: Path | None = None,
    read_as: Annotated[str | None, Parameter(name="--from", group=_FORMAT)] = None,
    write_as: Annotated[str | None, Parameter(name="--to", group=_FORMAT)] = None,
    layers: Annotated[str | None, Parameter(group=_FORMAT)] = None,
    reset: Annotated[Literal["after", "before", "none"] | None, Parameter(group=_FORMAT)] = None,
    batch_first: Annotated[bool | None, Parameter(group=_FORMAT)] = None,
    config: Annotated[Path | None, Parameter(group=_FORMAT)] = None,
    output: Annotated[str | None, Parameter(group=_FORMAT)] = None,
    states: Annotated[bool | None, Parameter(group=_FORMAT)] = None,
    lengths: Annotated[bool | None, Parameter(group=_FORMAT)] = None,
) -> None:
    """Write a model in another format, or with narrower numbers.

    The endings of the two names say what is read and what is written: .safetensors is Tidegate's
    or a state_dict of torch; .onnx, .keras, .h5, .pt, .json, .npz, .eqx; .h is written only. What
    was written is read back and run, but for a header. What the target cannot say exactly is
    refused.

    Args:
        source: The model.
        target: Where to write it.
        dtype: Store the matrices as bfloat16 or int8, a half or a quarter of the size.
        check: Measure on this file what the conversion changed: lines of numbers for a stack of
            layers; a table for a forecaster, whose last values are forecast, or for a classifier;
            a text for a language model.
        read_as: The format of the source, where the file does not show it: torch, flax, ng, ...
        write_as: The format of the target, where its ending is not enough: torch, rtneural, ...
        layers: Of a state_dict: its modules in order, and what is between, such as gru,last,fc.
        reset: Where the reset gate acts, of a source that does not show it.
        batch_first: Of a source that does not show it: rows come before steps.
        config: Of a .weights.h5 of Keras: the file that model.to_json() gave.
        output: Of an ONNX model with several outputs: which.
        states: To ONNX: states as inputs and outputs too, to read a sequence piece by piece.
        lengths: To ONNX: the lengths of rows as an input too.
    """
    from ._commands.convert import Formats, run_convert

    parts = None if layers is None else [part.strip() for part in layers.split(",")]
    reading = {
        "layers": parts,
        "reset": reset,
        "batch_first": batch_first,
        "config": config,
        "output": output,
    }
    writing = {"states": states, "lengths": lengths}
    given = [
        {name: value for name, value in options.items() if value is not None}
        for options in (reading, writing)
    ]
    run_convert(source, target, dtype, check, Formats(read_as, write_as, *given))


@app.command
def classify(
    file: Path,
    /,
    *,
    model: Path | None = None,
    number: bool = False,
    per_step: bool = False,
    cell: Literal["gru", "mingru"] = "gru",
    forward_only: bool = False,
    members: Count = 1,
    seed: Seed = 0,
    label: Column = None,
    id: Column = None,
    time: Column = None,
    out: Folder = Path("tidegate-classify"),
) -> None:
    """Learn to label the sequences in a file, or label them with a saved model.

    Trains a network on them, says how well it did on sequences that were held back, and writes it;
    or takes a saved one, and writes the labels.

    Args:
        file: A table, CSV or Parquet. With a column of ids: one row for each step of a sequence,
            its features in the other columns. Without: one row for each sequence, its steps in the
            columns, or a text.
        model: Label with this saved model; nothing is trained.
        number: Predict a number, not a label; so it is anyway where labels are not whole numbers.
        per_step: Each step has a label of its own.
        cell: The recurrent layers; a minGRU's gates do not see the state.
        forward_only: Do not read from the end too, so that tidegate stream labels step by step.
        members: How many networks to train and average.
        seed: Where the random numbers of the training start.
        label: The column of labels: y.
        id: The column that tells sequences apart: unique_id.
        time: The column of time stamps: ds. Without it, steps are in the order of the rows.
        out: The folder for the model or the labels.
    """
    from ._commands.classify import Request, run_classify

    run_classify(
        Request(
            file=file,
            out=out,
            model=model,
            number=number,
            per_step=per_step,
            cell=cell,
            bidirectional=not forward_only,
            members=members,
            seed=seed,
            label=label,
            id=id,
            time=time,
        )
    )


@app.command
def stream(
    model: Path,
    /,
    *,
    state: Path | None = None,
    every: Annotated[float, Parameter(validator=Number(gt=0))] = 5.0,
    levels: Annotated[tuple[Percent, ...] | None, Parameter(consume_multiple=True)] = None,
    id: Column = None,
    time: Column = None,
    target: Column = None,
) -> None:
    """Run a model over lines as they come: a line in, a line out, at once.

    Reads standard input and writes standard output. A forecaster takes the next value of a series
    and gives the forecast from there; a classifier takes a step and gives the label so far, with
    the probability of each; a language model takes a line of text and gives its log-probability
    and perplexity after the lines before; a stack of layers takes numbers and gives numbers. The
    first line may name the columns, and must where there are several series: one of ids tells
    them apart. A line that cannot be used is reported on standard error, with its number, and
    skipped.

    Args:
        model: A model file.
        state: Keep the model's state in this file: it is written when the input ends, after SIGTERM
            or Ctrl-C, and in between; where it is there already, the stream goes on from it.
        every: Write the state after so many seconds, at the next line.
        levels: Bands of a forecaster to give beside its medians, in percent: 80 95.
        id: The column that tells series apart: unique_id.
        time: The column of time stamps: ds.
        target: A forecaster's column of values: y.
    """
    from ._commands._answers import Columns
    from ._commands.stream import run_stream

    run_stream(model, state, every, Columns(id, time, target, levels))


@app.command
def inspect(
    model: Path,
    /,
    *,
    input: Path,
    out: Annotated[Path, Parameter(group=_RESULTS)] = Path("report.html"),
    title: Annotated[str | None, Parameter(group=_RESULTS)] = None,
    id: Column = None,
    time: Column = None,
    target: Column = None,
    freq: Column = None,
) -> None:
    """Show what the gates of a saved model do with a file: one page that opens offline.

    Args:
        model: A model file that Tidegate saved.
        input: What it is to read: a table of series for a forecaster or a classifier, lines of
            numbers for a stack of layers, a text for a language model.
        out: The page.
        title: The model in one line, at the head of the page.
        id: The column that tells series apart: unique_id. Without it, the file is one series.
        time: The column of time stamps: ds.
        target: The column of values or labels: y.
        freq: The calendar, such as MS, W-SUN, D, B or 15min; found from the time stamps.
    """
    from ._commands.inspect import Request, run_inspect

    run_inspect(
        Request(
            model=model,
            input=input,
            out=out,
            id=id,
            time=time,
            target=target,
            freq=freq,
            title=title,
        )
    )


@app.command
def bench(
    *,
    threads: Count | None = None,
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 15.0,
) -> None:
    """Time the GRU layer beside torch's on this machine: a forward pass and a training step.

    Args:
        threads: How many threads both use; without it, as many as torch takes.
        seconds: How long to measure, all shapes together.
    """
    from ._commands.bench import run_bench

    run_bench(threads, seconds)
