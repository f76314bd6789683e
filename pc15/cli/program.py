"""A command with subcommands, each a module that is loaded when it is chosen: what `pc15` and `pc15learn` share.

A subcommand's module has `run`, whose docstring is its --help, `add_arguments`, and `EXAMPLES`.  Nothing heavy is
imported before a command runs, so --help answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pc15._version import __version__
from pc15.cli.answer import Answer
from pc15.cli.parser import FAILED, INTERRUPTED, USAGE, Parser, add_speech, complain, say_any_name
from pc15.errors import ConfigError, Pc15Error, UnknownNameError, did_you_mean
from pc15.extras import missing

__all__ = ["Group", "Program"]


@dataclass(frozen=True)
class Group:
    """Subcommands of a subcommand, such as the benchmarks of `pc15 bench`: in modules `<name>_<subcommand>`."""

    description: str
    epilog: str
    commands: Mapping[str, str]
    noun: str


@dataclass(frozen=True)
class Program:
    """A program of the command line.

    package: the modules of its commands lie there.   commands: name -> summary, the first sentence of the docstring of
    its `run`, which is not loaded for that.   usage: errors that are answered with the code of wrong usage.
    extra: that all of its commands need; None if some do with the base.
    """

    name: str
    package: str
    description: str
    epilog: str
    commands: Mapping[str, str]
    groups: Mapping[str, Group] = field(default_factory=dict)
    usage: tuple[type[Pc15Error], ...] = (ConfigError, UnknownNameError)
    interrupted: str = "interrupted; what was finished stays"
    extra: str | None = None

    def parser(self, chosen: Sequence[str]) -> Parser:
        """The parser, complete for the command that the words `chosen` begin with; of others, name and summary."""
        parser = Parser(prog=self.name, description=self.description, epilog=self.epilog)
        parser.add_argument("--version", action="version", version=f"{self.name} {__version__}")
        commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        for name, summary in self.commands.items():
            if name not in self.groups:
                self._add(commands, name, summary, name if chosen[:1] == [name] else None)
                continue
            group = self.groups[name]
            added = commands.add_parser(name, help=summary, description=group.description, epilog=group.epilog)
            added.set_defaults(parser=added)
            below = added.add_subparsers(title=f"{group.noun}s", metavar=group.noun.upper(), required=True)
            for part, text in group.commands.items():
                self._add(below, part, text, f"{name}_{part}" if chosen[:2] == [name, part] else None)
        return parser

    def _add(self, commands: Any, name: str, summary: str, module: str | None) -> None:
        """A command's parser; with its module, also what it takes and does."""
        if module is None:
            commands.add_parser(name, help=summary)
            return
        command = importlib.import_module(f"{self.package}.{module.replace('-', '_')}")
        added: Parser = commands.add_parser(
            name,
            help=summary,
            description=_dedented(command.run.__doc__ or _sentence(summary)),  # -OO leaves no docstrings
            epilog="examples:\n" + "\n".join(f"  {self.name} {example}" for example in command.EXAMPLES),
        )
        added.set_defaults(run=command.run, parser=added)
        command.add_arguments(added)
        add_speech(added)

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command; returns its exit code.  Wrong usage and --help leave by SystemExit, as argparse does."""
        words = sys.argv[1:] if argv is None else list(argv)
        say_any_name()
        try:
            args, unknown = self.parser([word for word in words if not word.startswith("-")]).parse_known_args(words)
            if unknown:
                own: Parser = args.parser
                own.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0].split('=')[0], own.options())}")
            from pc15.cli.notices import one_line_each  # here: help needs no logging
            from pc15.runtime.notices import hide_bars

            hide_bars(hidden=args.quiet)
            args.answer = Answer(as_json=args.json, quiet=args.quiet)
            try:
                with one_line_each(self.name, quiet=args.quiet, verbose=args.verbose):
                    code: int = args.run(args)
            except BrokenPipeError:
                raise
            except (KeyboardInterrupt, Pc15Error, OSError, MemoryError) as error:
                stopped = isinstance(error, KeyboardInterrupt)
                args.answer.put(error=str(error) or (self.interrupted if stopped else "out of memory"))
                raise
            finally:
                args.answer.close()
                hide_bars(hidden=False)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt as stopped:  # pc15learn fit says by which signal, and what was kept
            complain(str(stopped) or self.interrupted, program=self.name)
            return getattr(stopped, "exit_code", INTERRUPTED)
        except BrokenPipeError:  # the reader, such as `head`, has enough; what Python flushes at exit must go nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except ModuleNotFoundError as error:
            group = words[:1] != [] and words[0] in self.groups
            if (told := missing(" ".join([self.name, *words[: 1 + group]]), error, self.extra)) is None:
                raise
            complain(str(told), program=self.name)
            return FAILED
        except (Pc15Error, OSError) as error:
            complain(str(error), program=self.name)
            return USAGE if isinstance(error, self.usage) else FAILED
        except MemoryError as error:
            complain(f"out of memory{f': {error}' if str(error) else ''}", program=self.name)
            return FAILED


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _dedented(doc: str) -> str:
    return "\n".join(line[4:] if line.startswith("    ") else line for line in doc.strip().splitlines())
