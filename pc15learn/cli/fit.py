"""`pc15learn fit`: labels -> a net."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from pc15.cli.parser import DONE, Parser
from pc15.errors import ConfigError
from pc15learn.config import DeviceName, LoggerName, PrecisionName

EXAMPLES = (
    "fit --config selector --set train.lr=1e-3 train.patience=5",
    "fit --config my/selector.yaml --devices 4 --precision bf16",
    "fit --config selector --online photos/ --set train.items=4000000 lambdas=[4,1]",
)


def run(args: argparse.Namespace) -> int:
    """Fit one net to labels, or to an oracle that searches photographs, as a config says.

    Configs are YAML: selector (M1), params (M2), rd (M3) and squares (M4) are packaged and go by their names, your own
    go by their paths.

    With --online no labels are needed: random crops of the photographs are encoded on the training device at every
    rate of `lambdas`, and the net learns from these searches, train.items rows an epoch; best on a GPU.

    <out>/<name>/ gets last.ckpt, after every epoch and a signal, and best.ckpt, the least val/loss.  After Ctrl-C or
    SIGTERM, --resume goes on.  --set changes any key of the config and counts more than the options above it.
    """
    from pc15learn.config import load_config, parse_settings
    from pc15learn.fit import fit_role

    options = ("labels", "out", "name", "logger", "device", "devices", "num_nodes", "precision")
    train = {name: getattr(args, name) for name in ("max_epochs", "batch_size", "lr", "seed", "hidden")}
    settings = parse_settings(args.set)
    if args.online is not None:
        if args.labels is not None:
            raise ConfigError("--online searches photographs and --labels reads labels; give one of them")
        settings = {"online": True, "labels": args.online, **settings}
    settings["train"] = {
        **{name: value for name, value in train.items() if value is not None},
        **settings.get("train", {}),
    }
    cfg = load_config(args.config, **{**{name: getattr(args, name) for name in options}, **settings})
    fitted = fit_role(cfg, resume=args.resume, overwrite=args.overwrite)
    if fitted.rank == 0:
        args.answer.put(
            checkpoint=str(fitted.checkpoint),
            metrics=dict(sorted(fitted.metrics.items())),
            per_second=fitted.per_second,
        )
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(fitted.metrics.items()))
        speed = f"; {fitted.per_second:,.0f} rows/s" if fitted.per_second else ""
        args.answer.say(f"{fitted.checkpoint}: {metrics}{speed}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="NAME",
        help="selector, params, rd or squares; or a path of your YAML",
    )
    add.add_argument("--labels", type=Path, metavar="DIR", help="folder of labels, instead of the config's")
    add.add_argument(
        "--online", metavar="PHOTOS", help="folder of photographs to search while the net trains, instead of labels"
    )
    add.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder of checkpoints, instead of the config's")
    add.add_argument("--name", metavar="NAME", help="name of the net, instead of the config's")
    add.add_argument(
        "--logger",
        choices=get_args(LoggerName),
        help="where metrics go; wandb obeys WANDB_MODE and its other variables",
    )
    add.add_argument("--device", choices=get_args(DeviceName), help="where to train")
    add.add_argument("--devices", type=int, metavar="N", help="GPUs, or processes on the CPU; several work by DDP")
    add.add_argument("--num-nodes", type=int, metavar="N", help="machines, each with so many devices")
    add.add_argument("--precision", choices=get_args(PrecisionName), help="32, or bf16 or 16 for mixed precision")
    add.add_argument("--max-epochs", type=int, metavar="N", help="passes over the train split, instead of the config's")
    add.add_argument("--batch-size", type=int, metavar="N", help="items per step, of all processes together")
    add.add_argument("--lr", type=float, metavar="X", help="learning rate at its highest")
    add.add_argument("--hidden", type=int, metavar="N", help="units per layer")
    add.add_argument("--seed", type=int, metavar="N", help="of weights and batches")
    add.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any key, such as train.lr=1e-3"
    )
    add.add_argument("--resume", action="store_true", help="go on from last.ckpt; begin if there is none")
    add.add_argument("--overwrite", action="store_true", help="begin again where there is a last.ckpt")
