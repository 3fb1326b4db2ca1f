"""The command line ``onnx-snn``: one command to a file; errors become one line here.

Exit codes: 0, done; 1, an error of the model, the data or the output, told in one line; 2, the
command was called with a wrong option; 130, interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import typer

from onnx_snn.cli.convert import convert
from onnx_snn.cli.evaluate import evaluate
from onnx_snn.cli.inspect import inspect
from onnx_snn.cli.reschedule import reschedule
from onnx_snn.errors import OnnxSnnError, OptionError

EPILOG = (
    "Exit codes: 0 done · 1 the model, the data or the output is at fault · "
    "2 a wrong option · 130 interrupted. A failed command leaves no output file."
)

# BadParameter is the one class of its family that typer itself exports.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="onnx-snn",
    help=(
        "Rewrite a trained ONNX network into a spiking neural network that runs in onnxruntime.\n\n"
        "Look at the model, convert it with some real data, and see what the result is worth:\n\n"
        "    onnx-snn inspect model.onnx\n\n"
        "    onnx-snn convert model.onnx --calibration data.npz -T 32 -o snn.onnx\n\n"
        "    onnx-snn evaluate snn.onnx --data test.npz --reference model.onnx --plot curve.png"
    ),
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (inspect, convert, evaluate, reschedule):
    app.command(epilog=EPILOG)(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except OptionError as error:
        return _fail(str(error), 2)
    except OnnxSnnError as error:
        return _fail(str(error), 1)
    except UsageError as error:
        message = error.format_message()
        return _fail(f"{message} (see onnx-snn --help)", 2) if message else 2
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror}", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
