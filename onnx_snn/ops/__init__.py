"""The operator set ``onnx_snn``: its specification in NumPy and its portable bodies."""

DOMAIN = "onnx_snn"
VERSION = 1
IF_NEURON = "IFNeuron"
LARGE_VALUES = "LargeValues"
