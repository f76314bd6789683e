"""The command `pc15learn`: make-tiles, label, verify, show, fit, export, bench, codebooks, tables, demo.

A command's function is its documentation, calls one public function, and prints one line (bench: its table).
Nothing heavy is imported before a command runs, so --help answers at once.
Exit codes: 0 done, 1 a file or the disk failed, 2 wrong usage or input, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pc15._version import __version__
from pc15.cli.parser import say_any_name
from pc15.config import PRESETS
from pc15.errors import ConfigError, Pc15Error
from pc15learn.config import DeviceName, LoggerName, PrecisionName
from pc15learn.fit.stopping import FitStopped

if TYPE_CHECKING:
    from pc15.config import CodecConfig

__all__ = ["main"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def make_tiles(args: argparse.Namespace) -> None:
    """Cut pictures into tiles and write where they lie, one JSON line each.

    An existing file is continued; pictures added later are appended.  The split is by picture.
    """
    from pc15learn.tiles import make_tiles as run

    made = run(
        args.images,
        args.out,
        tile=args.tile,
        overlap=args.overlap,
        limit=args.limit,
        stride=args.stride,
        val_percent=args.val_percent,
        test_percent=args.test_percent,
    )
    left = f", {made.skipped} left out" if made.skipped else ""
    print(f"{args.out}: {made.rows} tiles; {made.cut} pictures cut now, {made.kept} there already{left}")


def label(args: argparse.Namespace) -> int:
    """Label tiles by exhaustive search: what it chooses for each layer, and what else it could have.

    Labels are Parquet shards with a dataset card, which `datasets.load_dataset(FOLDER)` reads.  The folder is continued
    shard by shard, and extended where tiles were added; it holds the labels of one oracle, at one rate or several.
    Several GPUs are used by --workers, several machines by --part or --on ray.

      pc15learn label --tiles tiles.jsonl --out labels --lambda 4,2,1,0.5,0.25
      pc15learn label --tiles tiles.jsonl --out labels --part $SLURM_ARRAY_TASK_ID/16
    """
    from pc15learn.labels.write import LabelOptions
    from pc15learn.labels.write import make_labels as run

    lambdas, args.lambda_rd = args.lambda_rd, None
    options = LabelOptions(
        cfg=_codec(args),
        lambdas=lambdas,
        limit=args.limit,
        top=args.top,
        random=args.random,
        shard_size=args.shard_size,
        format=args.format,
        device=args.device,
        workers=args.workers,
        on=args.on,
        anywhere=True if args.anywhere else None,
        part=args.part,
    )
    made = run(args.tiles, args.out, options)
    at = f" at {made.rates} rates" if made.rates > 1 else ""
    print(f"{made.folder}: {made.tiles} tiles{at} in {made.shards} shards, {made.done} of them labelled now")
    if made.labelled:
        host = {stage: 1e6 * made.seconds[stage] / made.labelled for stage in ("reading", "writing")}
        print(
            f"{made.per_second:,.0f} tiles/s: {made.labelled} in {made.seconds['wall']:.1f} s, of them searching "
            f"{made.seconds['searching']:.1f} s; host {sum(host.values()):.0f} us a tile "
            f"(reading {host['reading']:.0f}, writing {host['writing']:.0f})"
        )
    if made.left_out:
        _complain(
            f"{made.left_out} tiles were left out, see {made.folder}/failures.jsonl; the same command tries again"
        )
    return FAILED if made.left_out else DONE


def verify(args: argparse.Namespace) -> int:
    """Derive a sample of labels again, from their pixels and the manifest, and compare them bit for bit.

    pc15learn verify labels --sample 1%
    """
    from pc15learn.labels.verify import verify_labels

    found = verify_labels(args.labels, share=args.sample, device=args.device)
    if found.wrong:
        _complain(f"{len(found.wrong)} of {found.checked} labels differ, {found.wrong[0]} first; label again")
        return FAILED
    print(f"{args.labels}: {found.checked} of {found.rows} labels derived again, all equal")
    return DONE


def show(args: argparse.Namespace) -> None:
    """Show labels as a page: tiles, what each layer drew, and the candidates with their costs.

    pc15learn show labels --out page.html
    """
    from pc15learn.labels.show import labels_page

    shown = labels_page(args.labels, args.out, tiles=args.tiles, seed=args.seed)
    print(f"{args.out}: {shown} tiles of {args.labels}")


def fit(args: argparse.Namespace) -> None:
    """Fit one net to labels, as a YAML of configs/learn/ says.

    <out>/<name>/ gets last.ckpt, after every epoch and a signal, and best.ckpt, the least val/loss.  After Ctrl-C or
    SIGTERM, --resume goes on.  --set changes any key of the config and counts more than the options above it.

      pc15learn fit --config configs/learn/selector.yaml --set train.lr=1e-3 train.patience=5
      pc15learn fit --config configs/learn/selector.yaml --devices 4 --precision bf16
    """
    from pc15learn.config import load_config, parse_settings
    from pc15learn.fit import fit_role

    options = ("labels", "out", "name", "logger", "device", "devices", "num_nodes", "precision")
    train = {name: getattr(args, name) for name in ("max_epochs", "batch_size", "lr", "seed", "hidden")}
    settings = parse_settings(args.set)
    settings["train"] = {
        **{name: value for name, value in train.items() if value is not None},
        **settings.get("train", {}),
    }
    cfg = load_config(args.config, **{**{name: getattr(args, name) for name in options}, **settings})
    logging.getLogger("pc15learn.fit").setLevel(logging.INFO)
    fitted = fit_role(cfg, resume=args.resume, overwrite=args.overwrite)
    if fitted.rank == 0:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(fitted.metrics.items()))
        print(f"{fitted.checkpoint}: {metrics}")


def export(args: argparse.Namespace) -> None:
    """Write a checkpoint's net as safetensors with the YAML card that the encoder checks."""
    from pc15learn.export import export_weights

    made = export_weights(args.ckpt, args.out, name=args.name)
    print(f"{made.weights}: {made.weights.stat().st_size} bytes, card {made.card.name}")


def bench(args: argparse.Namespace) -> None:
    """Compare searches with and without hooks on the same pictures: seconds, quality, rate."""
    from pc15learn.bench import run_bench, table_text, verdict
    from pc15learn.tracking import track_bench

    result = run_bench(
        args.images,
        args.out,
        weights=args.weights,
        cfg=_codec(args),
        lambdas=args.lambdas,
        topk=args.topk,
        limit=args.limit,
        repeats=args.repeats,
    )
    print(table_text(result.table))
    print(verdict(result.table))
    print(f"{result.html}: {len(result.measured)} encodes")
    if args.logger == "wandb":
        track_bench(result)


def codebooks(args: argparse.Namespace) -> None:
    """Train a codebook: the patterns that layers of training pictures gain most from.

    What layers are asked to draw comes from pictures, which are searched for it greedily and as wholes, or from labels,
    whose tiles were searched exhaustively and each on its own: folders of one oracle, best at several lambdas.  Of
    labels the train split counts.  The file's name is the codebook's id.  Streams need tables made for it: see the
    command tables.

    With --squares it is the codebook of the residual's squares instead, and the models that their layers start with:
    from pictures alone.  The package's own lies at pc15/residual/v15_squares.npz, and streams name no other.

      pc15learn codebooks --images photos/ --out models/codebooks/mine.npz
      pc15learn codebooks --labels labels-4 labels-1 --out models/codebooks/mine.npz
      pc15learn codebooks --squares --images photos/ --out squares.npz --workers 8
    """
    if args.squares:
        _square_codebooks(args)
        return
    from pc15learn.codebooks.train import train_codebook, train_codebook_on_labels

    if args.workers is not None:
        raise ConfigError("--workers goes with --squares")
    of_images = _of_images(args, "tile", "crop")
    shared: dict[str, Any] = {
        "codebook_id": args.out.stem,
        "base": args.base,
        "entries": args.entries,
        "targets": args.targets,
        "random": args.random,
        "seed": args.seed,
    }
    if args.labels is not None:
        made = train_codebook_on_labels(args.labels, args.out, **shared)
    else:
        from pc15.images import find_images

        made = train_codebook(find_images(args.images), args.out, **shared, **of_images)
    print(f"{args.out}: {sum(map(len, made.entries))} entries")


def _square_codebooks(args: argparse.Namespace) -> None:
    from pc15.images import find_images
    from pc15learn.codebooks.squares import by_generator, train_squares

    if args.images is None or args.tile is not None:
        raise ConfigError("--squares takes --images, and no --labels or --tile")
    made = train_squares(
        find_images(args.images), args.out, seed=args.seed, crop=args.crop or 320, workers=args.workers or 1
    )
    print(f"{args.out}: " + ", ".join(f"{len(own)} of {side} px" for side, own in made.items()))
    for name, share in by_generator(args.out).items():
        print(f"{name} {share:.1%}")


def tables(args: argparse.Namespace) -> None:
    """Train rANS tables for a codebook: count the symbols of training pictures' programs.

    Pictures are encoded and counted, and again with the tables that this gives.  Streams and labels are counted as they
    are.  Streams hold what the encoder chose, tiles beside each other, colour too: prefer them where you have both.
    Labels hold what the oracle chose for each tile of a luma as if it were alone; the train split counts, and of its
    pictures every tile has to be there.  Several lambdas and tile sizes fill the tables of several rates and sizes;
    what was rarely counted leans on --like.  Of streams and labels of another codebook than --codebook all is counted
    but generators and entries, whose use its own weights tell.  The file's name is the tables' id.  It is written when
    all is done.

      pc15learn tables --images photos/ --codebook mine --like v15_trained --out models/rans/mine.json
      pc15learn tables --labels labels-4 labels-1 --codebook mine --like v15_trained --out models/rans/mine.json
      pc15learn tables --streams streams/ --like v15_trained --out models/rans/again.json
    """
    from pc15learn.train_tables import tables_from_labels, tables_from_streams, train_tables

    of_images = _of_images(args, "rounds", "share", "crop", "workers")
    shared: dict[str, Any] = {"table_id": args.out.stem, "like": args.like, "plain": args.plain}
    if args.codebook is not None:
        shared["codebook_id"] = args.codebook
    if args.labels is not None:
        made = tables_from_labels(args.labels, args.out, **shared)
    elif args.streams is not None:
        from pc15.cli.files import find_sources
        from pc15.cli.parser import STREAM_SUFFIX

        made = tables_from_streams(
            [source.path for source in find_sources(args.streams, (STREAM_SUFFIX,))], args.out, **shared
        )
    else:
        from pc15.images import find_images

        made = train_tables(find_images(args.images), args.out, **shared, **of_images)
    print(f"{args.out}: {len(made.tables)} tables")


def demo(args: argparse.Namespace) -> None:
    """Show the whole tool in a few minutes: encode a photo, then tiles, labels, fits, weights, benchmark."""
    from pc15learn.demo import run_demo

    print(run_demo(args.out))


# ---------------------------------------------------------------- arguments


def _codec(args: argparse.Namespace) -> CodecConfig:
    """The search options that `label` and `bench` share."""
    from pc15.config import PROGRAMS, CodecConfig

    changes = {**PROGRAMS, "lambda_rd": args.lambda_rd, "alpha_mix": args.alpha_mix, "device": args.device}
    if getattr(args, "tile", None) is not None:
        changes["tile"] = args.tile
    changes |= {"codebook_id": getattr(args, "codebook", None), "table_id": getattr(args, "tables", None)}
    return CodecConfig.preset(args.preset, **{name: value for name, value in changes.items() if value is not None})


def _of_images(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that only go with --images, as far as they are given.

    Raises:
        ConfigError: some are, but no pictures.
    """
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if given and args.images is None:
        raise ConfigError(f"--{next(iter(given))} says how pictures are searched; leave it out, or give --images")
    return given


def _command(commands: Any, run: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
    """A sub-command whose help is its function's docstring."""
    name = run.__name__.replace("_", "-")
    text = inspect.getdoc(run) or f"The step {name} of the toolkit; docs/toolkit.md describes it."  # -OO: no docstrings
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text.splitlines()[0],
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _part(text: str) -> tuple[int, int]:
    """I/N of --part."""
    number, _, parts = text.partition("/")
    return int(number), int(parts)


def _share(text: str) -> float:
    """A share in percent, or as a fraction."""
    value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is no share; give 0.1% to 100%")
    return value


def _lambdas(text: str) -> tuple[float, ...]:
    """Rates with commas between them."""
    return tuple(float(part) for part in text.split(","))


def _codec_arguments(parser: argparse.ArgumentParser, preset: str, *, several: bool = False) -> None:
    parser.add_argument("--preset", choices=list(PRESETS), default=preset, help=f"search options (default: {preset})")
    if several:
        parser.add_argument(
            "--lambda", dest="lambda_rd", type=_lambdas, default=(), metavar="L,..",
            help="prices of a bit, each tile is labelled at all; larger is smaller files",
        )  # fmt: skip
    else:
        parser.add_argument(
            "--lambda", dest="lambda_rd", type=float, metavar="L", help="price of a bit; larger is smaller files"
        )
    parser.add_argument(
        "--alpha", dest="alpha_mix", type=float, metavar="A", help="share of SSIM in the distortion, 0..1"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def _training_sources(parser: argparse.ArgumentParser) -> Any:
    """What codebooks and tables are trained on; returns the group that one is chosen from."""
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--images", nargs="+", type=Path, metavar="PATH", help="folders or pictures to train on")
    sources.add_argument("--labels", nargs="+", type=Path, metavar="DIR", help="folders of pc15learn label")
    return sources


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pc15learn",
        description="Train the search of the PC15 image codec: tiles, labels, nets, hooks, benchmarks.",
    )
    parser.add_argument("--version", action="version", version=f"pc15learn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = _command(commands, make_tiles)
    one.add_argument("--images", required=True, help="folder of pictures, one picture, or an fsspec URL")
    one.add_argument("--out", required=True, type=Path, help="tiles.jsonl to write or continue")
    one.add_argument("--tile", type=int, default=32, help="tile side, px (default: 32)")
    one.add_argument("--overlap", type=int, default=8, help="px shared by neighbours (default: 8)")
    one.add_argument("--limit", type=int, metavar="N", help="most tiles per picture, chosen by hash")
    one.add_argument("--stride", type=int, metavar="PX", help="px between tiles (default: tile - overlap)")
    one.add_argument("--val-percent", type=int, default=10, help="share of pictures to validate on (default: 10)")
    one.add_argument("--test-percent", type=int, default=10, help="share of pictures held back (default: 10)")

    one = _command(commands, label)
    one.add_argument("--tiles", required=True, type=Path, help="tiles.jsonl of make-tiles")
    one.add_argument("--out", required=True, type=Path, help="folder of the labels")
    one.add_argument("--limit", type=int, metavar="N", help="label N tiles, spread over all pictures")
    one.add_argument("--codebook", metavar="ID", help="codebook to search (default: the trained one)")
    one.add_argument("--tables", metavar="ID", help="tables that say what bits cost (default: the codebook's)")
    _codec_arguments(one, "oracle", several=True)
    one.add_argument("--top", type=int, default=32, help="best candidates kept per layer (default: 32)")
    one.add_argument("--random", type=int, default=16, help="random candidates kept per layer (default: 16)")
    one.add_argument("--shard-size", type=int, default=8192, metavar="N", help="tiles per file (default: 8192)")
    one.add_argument(
        "--format", choices=["parquet", "jsonl"], default="parquet", help="jsonl can be read by eye (default: parquet)"
    )
    one.add_argument(
        "--anywhere", action="store_true", help="read pictures that rows name by URL or absolute path (default: refuse)"
    )
    one.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="processes, each with a GPU of its own where there are several; on ray 0 is one per GPU (default: 1)",
    )  # fmt: skip
    one.add_argument("--on", choices=["local", "ray"], default="local", help="where they work (default: local)")
    one.add_argument(
        "--part", type=_part, default=(0, 1), metavar="I/N", help="do every N-th shard from I on, in 0..N-1"
    )

    one = _command(commands, verify)
    one.add_argument("labels", type=Path, metavar="FOLDER", help="folder of labels")
    one.add_argument("--sample", type=_share, default=0.01, metavar="P%%", help="share to derive again (default: 1%%)")
    one.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")

    one = _command(commands, show)
    one.add_argument("labels", type=Path, metavar="FOLDER", help="folder of labels")
    one.add_argument("--out", required=True, type=Path, metavar="PAGE.html", help="the page to write")
    one.add_argument("--tiles", type=int, default=24, metavar="N", help="tiles to show (default: 24)")
    one.add_argument("--seed", type=int, default=1, help="of which ones (default: 1)")

    one = _command(commands, fit)
    one.add_argument("--config", required=True, type=Path, help="a YAML of configs/learn/")
    one.add_argument("--labels", type=Path, help="folder of labels, instead of the config's")
    one.add_argument("--out", type=Path, help="folder of checkpoints, instead of the config's")
    one.add_argument("--name", help="name of the net, instead of the config's")
    one.add_argument(
        "--logger",
        choices=get_args(LoggerName),
        help="where metrics go; wandb obeys WANDB_MODE and its other variables",
    )
    one.add_argument("--device", choices=get_args(DeviceName), help="where to train")
    one.add_argument("--devices", type=int, metavar="N", help="GPUs, or processes on the CPU; several work by DDP")
    one.add_argument("--num-nodes", type=int, metavar="N", help="machines, each with so many devices")
    one.add_argument("--precision", choices=get_args(PrecisionName), help="32, or bf16 or 16 for mixed precision")
    one.add_argument("--max-epochs", type=int)
    one.add_argument("--batch-size", type=int)
    one.add_argument("--lr", type=float)
    one.add_argument("--hidden", type=int)
    one.add_argument("--seed", type=int)
    one.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any key, such as train.lr=1e-3"
    )
    one.add_argument("--resume", action="store_true", help="go on from last.ckpt; begin if there is none")
    one.add_argument("--overwrite", action="store_true", help="begin again where there is a last.ckpt")

    one = _command(commands, export)
    one.add_argument("--ckpt", required=True, type=Path, help="a last.ckpt or best.ckpt of fit")
    one.add_argument("--out", required=True, type=Path, help="folder of the weights")
    one.add_argument("--name", help="name in the card and in streams")

    one = _command(commands, bench)
    one.add_argument("--images", required=True, nargs="+", type=Path, help="folders or pictures")
    one.add_argument("--out", required=True, type=Path, help="folder of the report")
    one.add_argument("--weights", type=Path, help="folder of exported weights")
    one.add_argument("--topk", type=int, nargs="+", default=[8], metavar="K", help="generators hooks keep (default: 8)")
    one.add_argument("--lambdas", type=float, nargs="+", default=[], metavar="L", help="several rates")
    one.add_argument("--limit", type=int, metavar="N", help="the first N pictures")
    one.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="encode N times, take the shortest (default: 1)"
    )
    one.add_argument("--tile", type=int, help="tile side, px, instead of the preset's")
    one.add_argument("--logger", choices=["none", "wandb"], default="none", help="also show table and curves there")
    _codec_arguments(one, "balanced")

    one = _command(commands, codebooks)
    _training_sources(one)
    one.add_argument("--squares", action="store_true", help="of the residual's squares, not of tiles")
    one.add_argument("--workers", type=int, metavar="N", help="with --squares: processes (default: 1)")
    one.add_argument("--out", required=True, type=Path, metavar="ID.npz", help="the codebook to write")
    one.add_argument("--base", default="v15_grid", metavar="ID", help="what stands behind them (default: v15_grid)")
    one.add_argument("--entries", type=int, default=24576, help="most entries beside the base's (default: 24576)")
    one.add_argument("--targets", type=int, default=60000, metavar="N", help="most layers to serve (default: 60000)")
    one.add_argument("--random", type=int, default=800, metavar="N", help="random patterns tried per generator")
    one.add_argument("--seed", type=int, default=1, help="of what is random (default: 1)")
    one.add_argument("--tile", type=int, help="with --images: tile side, px (default: 32)")
    one.add_argument(
        "--crop", type=int, help="with --images: middle square that is used, px (default: 256; squares: 320)"
    )

    one = _command(commands, tables)
    sources = _training_sources(one)
    sources.add_argument("--streams", nargs="+", type=Path, metavar="PATH", help=".pc15 files or folders of them")
    one.add_argument("--out", required=True, type=Path, metavar="ID.json", help="the tables to write")
    one.add_argument(
        "--codebook", metavar="ID", help="what they are for (default: v15_grid, or what labels or streams name)"
    )
    one.add_argument("--like", metavar="ID", help="tables to begin with and to lean on (default: flat ones)")
    one.add_argument("--plain", action="store_true", help="one table for all contexts of a symbol, for studies")
    one.add_argument("--rounds", type=int, help="with --images: of encoding and counting (default: 3)")
    one.add_argument(
        "--share", type=int, metavar="N", help="with --images: last-round encodes per picture (default: 4)"
    )
    one.add_argument("--crop", type=int, help="with --images: middle square that is used, px (default: 256)")
    one.add_argument("--workers", type=int, help="with --images: processes (default: 2)")

    one = _command(commands, demo)
    one.add_argument("--out", type=Path, default=Path(".demo"), help="folder of everything it makes (default: .demo)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.  Wrong usage and --help leave by SystemExit, as argparse does."""
    say_any_name()
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="pc15learn: %(levelname)s: %(message)s")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _complain(str(message), "warning")
            code: int | None = args.run(args)
            sys.stdout.flush()
        return DONE if code is None else code
    except FitStopped as stopped:
        _complain(str(stopped))
        return stopped.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; what was finished stays, and the same command goes on from there")
        return INTERRUPTED
    except Pc15Error as error:
        _complain(str(error))
        return USAGE
    except OSError as error:
        _complain(str(error))
        return FAILED


def _complain(text: str, kind: str = "error") -> None:
    print(f"pc15learn: {kind}: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
