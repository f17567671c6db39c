"""The command line: `rlseq2seq generate` and `rlseq2seq examples`."""

import argparse
import json
import math
import os
import random
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from rlseq2seq.errors import UserError

_DESCRIPTION = """\
Sequence-level training of sequence-to-sequence models.

Training is a DVC pipeline: edit params.yaml and run `dvc repro`. This command uses what it has trained.
"""

_GENERATE = """\
Write an output for each source.

The input is text, a source a line, or JSON lines, each an object with a text "source" (other keys are kept). What is
written is the input with the output added: after a tab, or as the key "output".
"""

_SHOW = """\
Print some of what the models wrote for the test pairs, beside their sources, their targets and the baselines.
"""

_EXAMPLES = """\
examples:
  rlseq2seq generate sources.txt > outputs.tsv
  rlseq2seq generate --checkpoint models/mle --beam-size 4 pairs.jsonl > outputs.jsonl
  rlseq2seq examples --count 3
  echo 'is_prime(n) return all(n % i for i in range(2, n))' | rlseq2seq generate
"""


_JSON_START = re.compile(r'\s*\{\s*"')


class Source(NamedTuple):
    """A source, and the JSON object that it came in, if it did."""

    text: str
    row: dict[str, object] | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, like every other error, instead of the usage before it."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run; exit code 2 and one sentence for what the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"rlseq2seq: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        sentence = f"{error.filename} cannot be opened ({error.strerror}): see to its permissions"
        print(f"rlseq2seq: {sentence}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader has had enough (`| head`); keep the interpreter from flushing into nowhere as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser("rlseq2seq", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=layout)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="write an output for each source",
        description=_GENERATE,
        epilog=_EXAMPLES,
        formatter_class=layout,
    )
    generate.add_argument("input", nargs="?", default="-", metavar="FILE", help="what to read; - is standard input")
    generate.add_argument(
        "--format", choices=("auto", "lines", "jsonl"), default="auto", help="auto (default): by the first line"
    )
    generate.add_argument("--output", type=Path, metavar="FILE", help="where to write; default standard output")
    generate.add_argument(
        "--checkpoint", type=Path, default=Path("models/rl"), metavar="FOLDER", help="default models/rl"
    )
    generate.add_argument("--beam-size", type=_at_least(1), default=1, metavar="N", help="1, the default, is greedy")
    generate.add_argument(
        "--length-penalty", type=_at_least(0, float), default=1.0, metavar="X", help="log-probability / length ** X"
    )
    generate.add_argument("--block-ngrams", type=_at_least(0), default=0, metavar="N", help="no N-gram twice; 0: off")
    generate.add_argument("--min-tokens", type=_at_least(0), default=0, metavar="N", help="at least N tokens an output")
    generate.add_argument(
        "--critic-weight", type=_at_least(0, float), default=0.0, metavar="X", help="how much the critic guides; 0: not"
    )
    generate.add_argument("--batch-size", type=_at_least(1), default=64, metavar="N", help="sources at a time")
    generate.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, auto")
    generate.set_defaults(run=_generate)
    show = commands.add_parser("examples", help="print outputs with their sources", description=_SHOW)
    show.add_argument("--count", type=_at_least(1), default=3, metavar="N", help="how many; default 3")
    show.add_argument("--seed", type=int, default=0, metavar="N", help="another number gives others")
    show.add_argument(
        "--predictions",
        type=Path,
        default=Path("reports/predictions.jsonl"),
        metavar="FILE",
        help="what the stage evaluate wrote; default reports/predictions.jsonl",
    )
    show.set_defaults(run=_show)
    return parser


def _at_least(lowest: int, kind: Callable[[str], float] = int) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not lowest <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {lowest}")
        return value

    return number  # argparse calls what it wanted by this name


def _generate(options: argparse.Namespace) -> None:
    # Everything is read and checked before anything is written.
    sources = read_sources(options.input, options.format)
    if options.output is not None and (options.output.is_dir() or not options.output.parent.is_dir()):
        raise UserError(f"--output {options.output} is not a file that can be made: name one in a folder that is there")
    from rlseq2seq.config.decoding import BeamConfig  # late: --help and bad input do not wait for PyTorch
    from rlseq2seq.generation import load

    generator = load(options.checkpoint, options.device)
    search = BeamConfig(
        beam_size=options.beam_size,
        length_penalty=options.length_penalty,
        block_ngrams=options.block_ngrams,
        min_tokens=options.min_tokens,
        critic_weight=options.critic_weight,
    )
    outputs = generator.generate((source.text for source in sources), search, options.batch_size, progress=True)
    lines = [_line(source, output).encode() for source, output in zip(sources, outputs, strict=True)]
    if options.output is None:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.flush()
        return
    try:
        options.output.write_bytes(b"".join(lines))
    except OSError as error:
        raise UserError(f"--output {options.output} cannot be written ({error.strerror}): name another") from None


def _line(source: Source, output: str) -> str:
    if source.row is None:
        return f"{source.text}\t{output}\n"
    return json.dumps({**source.row, "output": output}, ensure_ascii=False) + "\n"


def _show(options: argparse.Namespace) -> None:
    try:
        with options.predictions.open(encoding="utf-8") as file:
            lines = list(file)
    except OSError as error:
        raise UserError(
            f"{options.predictions} cannot be read ({error.strerror}): `dvc repro` makes it, `dvc checkout` restores it"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{options.predictions} is not what the stage evaluate writes: name its file") from None
    chosen = sorted(random.Random(options.seed).sample(range(len(lines)), min(options.count, len(lines))))
    for place in chosen:
        texts = _texts(lines[place], f"{options.predictions}, line {place + 1}")
        width = max(map(len, texts))
        print(f"test pair {place + 1} of {len(lines):,}")
        for name, text in texts.items():
            first, others = f"  {name:{width}}  ", " " * (width + 4)
            print(textwrap.fill(text or "(nothing)", 110, initial_indent=first, subsequent_indent=others))
        print()


def _texts(line: str, place: str) -> dict[str, str]:
    try:
        row = json.loads(line)
        texts = {"source": row["source"], "target": row["target"], **row["outputs"]}
        if all(isinstance(text, str) for text in texts.values()):
            return texts
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{place} is not what the stage evaluate writes: name its file")


def read_sources(name: str, form: str) -> list[Source]:
    """Read lines or JSON lines from the file ``name``, or from standard input for ``-``.

    Raises:
        UserError: the file cannot be read, or a line is not what ``form`` (auto, lines, jsonl) says.
    """
    title = "standard input" if name == "-" else name
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            lines = _decoded(file, title)
    except OSError as error:
        raise UserError(
            f"{title} cannot be read ({error.strerror}): name a file of sources, or - for standard input"
        ) from None
    first = next(filter(str.strip, lines), "")
    if form == "lines" or (form == "auto" and not _JSON_START.match(first)):
        return [Source(line, None) for line in lines]
    return [_json_source(line, f"{title}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(file: IO[bytes], title: str) -> list[str]:
    lines = []
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # editors may begin a file with a mark
            lines.append(text.rstrip("\r\n"))
        except UnicodeDecodeError:
            raise UserError(f"{title}, line {number} is not UTF-8: convert the file (iconv -t UTF-8)") from None
    return lines


def _json_source(line: str, place: str) -> Source:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # refuses half a character (an unpaired \\ud800), as JSON does not
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(
            f"{place} is not JSON ({reason}): each line must be an object (--format lines for text)"
        ) from None
    if not isinstance(row, dict) or not isinstance(row.get("source"), str):
        raise UserError(f'{place} has no text "source": each line must be an object like {{"source": "..."}}')
    return Source(row["source"], row)
