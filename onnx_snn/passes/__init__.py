"""Passes, one to a file; ``onnx_snn.convert`` puts them in order. They do not import each other."""
