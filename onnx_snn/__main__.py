"""``python -m onnx_snn``: the command line."""

import sys

from onnx_snn.cli import main

sys.exit(main())
