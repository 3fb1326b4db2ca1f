import onnx

from onnx_snn.analyse import CONTROL_FLOW
from onnx_snn.operators import EXTREMA, GRADED, OPERATORS
from operator_table import PATH, REMOVED, render, rows


def test_the_page_in_the_docs_is_the_one_that_the_code_makes():
    assert PATH.read_text(encoding="utf-8") == render()


SINCE = {"RMSNormalization": 23, "Swish": 24}
"""Opsets of those that the oldest onnx we run with does not know yet."""


def test_every_operator_is_one_of_onnx():
    for name in {*OPERATORS, *EXTREMA, *GRADED, *REMOVED, *CONTROL_FLOW}:
        assert onnx.defs.has(name) or SINCE[name] > onnx.defs.onnx_opset_version(), name


def test_every_operator_has_a_row_and_every_row_a_reason():
    found = {name for name, _, _ in rows()}
    assert found == {*OPERATORS, *EXTREMA, *GRADED, *REMOVED, *CONTROL_FLOW}
    assert all(kind and reason for _, kind, reason in rows())
