"""The ``mkmed`` program: it wires the command groups, and turns every failure into one line, a hint and an exit code.

A group is imported only when one of its commands is asked for, so that ``mkmed --help`` answers at once.
"""

from __future__ import annotations

if __name__ == "__main__":
    from kb import interrupts as early

    early.while_loading()

import errno
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name
from typer.models import CommandInfo

from kb import interrupts
from kb.errors import DiskFull, Interrupted, MkmedError, UsageError
from kb.output import complain, open_streams, say, set_quiet, write

COMMANDS: Mapping[str, tuple[str, str]] = {
    "kb": ("kb.commands:app", "The knowledge base: ingest, coverage, show, search, export."),
    "embed": ("embed.commands:app", "The embedding store: pretrain, publish, neighbours."),
    "recsys": ("recsys.commands:app", "Medication recommendation: prepare, train, evaluate, recommend."),
    "db": ("kb.db.commands:app", "The database: start, stop, upgrade, psql."),
    "doctor": ("kb.ground:doctor_app", "Check database, packages, GPU and disk, with a remedy for each fault."),
    "status": ("kb.ground:status_app", "What there is: drugs, buckets, sources, runs, on one screen."),
    "demo": ("mkmed.demo.commands:app", "Run the whole path on the bundled open data."),
    "plan": ("mkmed.plan.commands:app", "What a number of compounds and patients takes, from measured rates."),
    "serve": ("mkmed.serve.commands:app", "Answer over HTTP: search, neighbours, recommendations."),
    "explorer": ("mkmed.explorer.commands:app", "Write the explorer as one file that needs no service."),
    "report": ("mkmed.report.commands:app", "Write the results as one self-contained HTML page."),
}
"""Every top-level command: its Typer application, imported on use, and its line in the help."""

ROOMS = frozenset({"kb", "embed", "recsys", "mkmed", "migrations"})
"""mkmed's own packages: where one of them is not found, something is broken that no installation mends."""

EXAMPLES = """\b
Examples:
  mkmed demo
  mkmed kb ingest --source corpus
  mkmed kb coverage
  mkmed embed pretrain
  mkmed embed neighbours metformin -k 10
  mkmed doctor
"""


class _Wanted:
    """What the user asked of the program as a whole."""

    debug = False
    words: Sequence[str] = ()
    group = ""


def _name_of(command: CommandInfo) -> str:
    """What is typed for a command."""
    return command.name or get_command_name(getattr(command.callback, "__name__", ""))


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is asked for, not to list it.

    Of a group below it only the command that the next word names is built: all of them cost a tenth of a short answer.
    """

    following = ""
    """The word after the group's."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The names of the commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The command behind a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        application: typer.Typer = getattr(import_module(module), attribute)
        application.rich_markup_mode = None
        asked = [one for one in application.registered_commands if self.following and self.following == _name_of(one)]
        if not asked or len(application.registered_commands) == 1:
            return typer.main.get_command(application)
        narrow = copy(application)
        narrow.registered_commands = asked
        return typer.main.get_group(narrow)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command that the first of ``args`` names, with its name and what follows."""
        self.following = args[1] if len(args) > 1 else ""
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, no_args_is_help=True, add_completion=True, epilog=EXAMPLES)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write(f"mkmed {version('mkmed')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    plugin: Annotated[list[str] | None, typer.Option(
        help="A source, EHR format or recommender of your own: FILE.py:NAME; may be repeated.")] = None,
    log_file: Annotated[Path | None, typer.Option(
        envvar="MKMED_LOG_FILE", show_envvar=False, dir_okay=False,
        help="Append to this file what a command does, for whoever operates it; or $MKMED_LOG_FILE.")] = None,
    log_format: Annotated[str, typer.Option(
        envvar="MKMED_LOG_FORMAT", show_envvar=False, help="text or json, one object a line; or $MKMED_LOG_FORMAT.",
        )] = "text",
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True,
                                          help="Print the version and leave.")] = False,
) -> None:
    """A multimodal medication knowledge base, an embedding store and a recommender on top of it."""
    set_quiet(quiet)
    _Wanted.debug, _Wanted.group = debug, context.invoked_subcommand or ""
    if log_file is not None:
        _log(log_file, log_format)
    for given in plugin or ():
        _adopt(given)


def _log(path: Path, form: str) -> None:
    """Begin the log; raises UsageError for a format that there is not."""
    from kb.ledger.entries import program_version
    from kb.log import LogFormat, open_log

    if form not in list(LogFormat):
        raise UsageError(f"--log-format {form} is neither text nor json", hint="--log-format json")
    group, words = _Wanted.group, list(_Wanted.words)
    after = words[words.index(group) + 1:][:1] if group in words and group in ("kb", "embed", "recsys", "db") else []
    command = " ".join([group, *(word for word in after if not word.startswith("-"))])
    open_log(path, LogFormat(form), group, command, program_version())


def _adopt(given: str) -> None:
    """Register what ``FILE.py:NAME`` holds where its kind belongs; raises UsageError for what is none of them."""
    from kb.registry import load_file
    from kb.sources import Source, adopt

    found = load_file(given)
    name = getattr(found, "name", None)
    if isinstance(found, type) and issubclass(found, Source):
        adopt(found)
    elif isinstance(name, str) and hasattr(found, "requires") and hasattr(found, "read"):
        from recsys.formats import FORMATS

        FORMATS.add(name, found)
    elif isinstance(name, str) and hasattr(found, "predict_proba"):
        from recsys.registry import RECOMMENDERS

        RECOMMENDERS.add(name, found)
    else:
        raise UsageError(f"{given} is neither a source nor an EHR format nor a recommender",
                         hint="models of a modality are found by entry points: docs/extending.md")


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one call of the program; everything that fails is said on stderr without secrets."""
    _Wanted.debug, _Wanted.group, _Wanted.words = False, "", sys.argv[1:] if arguments is None else arguments
    code: int | None = None
    try:
        code = _run(arguments)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
        raise
    except KeyboardInterrupt:
        code = Interrupted.exit_code
        raise
    finally:
        if "kb.log" in sys.modules:
            from kb.log import close

            close(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        answer = typer.main.get_command(app).main(arguments, prog_name="mkmed", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) left; what it did not want cannot be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last place that can turn a failure into a message
        return _fail(error)
    if answer == Interrupted.exit_code:
        complain("interrupted; everything committed is kept", "run the same command again to go on")
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else 0


def _fail(error: Exception) -> int:
    from kb.normalise import redact

    message, hint, code = _explain(error)
    if "kb.log" in sys.modules:
        from kb.log import log_failure

        log_failure(error, message, code, _Wanted.group)
    if _Wanted.debug:
        say(redact("".join(traceback.format_exception(error)).rstrip()))
    complain(redact(message), redact(hint) if hint else None)
    return code


def _explain(error: Exception) -> tuple[str, str | None, int]:
    """Message, hint and exit code of a failure."""
    if isinstance(error, MkmedError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = getattr(context, "command_path", "mkmed")
        return error.format_message(), f"{path} --help", error.exit_code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in ROOMS:
        return (f"this needs the package {error.name}, which is not installed",
                "the core alone was installed; everything: pip install -c constraints.txt mkmed (docs/install.md)", 1)
    if isinstance(error, typer.Abort) and isinstance(error.__cause__ or error.__context__, EOFError):
        return "unexpected EOFError: a file ended too early", "run again with --debug for the traceback", 1
    if isinstance(error, typer.Abort):
        return "interrupted; everything committed is kept", "run the same command again to go on", Interrupted.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        named = f": {error.filename}" if error.filename else ""
        return f"no space left on the disk{named}", "free space, then run the same command again", DiskFull.exit_code
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else "a file could not be read or written: "
        return f"{named}{error.strerror}", "check the path, its permissions and its disk", 1
    if type(error).__module__.startswith(("sqlalchemy.", "psycopg2")):
        from kb.db.failures import first_line, translate

        mapped = translate(error)
        if mapped is not None:
            return mapped.message, mapped.hint, mapped.exit_code
        return f"PostgreSQL refused: {first_line(error)}", "run again with --debug for the traceback", 1
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"unexpected {type(error).__name__}: {first}", "run again with --debug for the traceback", 1


def main() -> None:
    """Run the program and leave with its exit code."""
    interrupts.while_running()
    open_streams()
    try:
        code = run()
    except KeyboardInterrupt:  # before a command was there to say more
        complain("interrupted; everything committed is kept", "run the same command again to go on")
        code = Interrupted.exit_code
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
        if code > 128:
            complain(f"stopped by {signal.Signals(code - 128).name}; everything committed is kept",
                     "run the same command again to go on")
    interrupts.while_leaving()
    sys.exit(code)


if __name__ == "__main__":
    main()
