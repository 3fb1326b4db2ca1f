"""The three ways to run a spiking network over time, and the record of one in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import onnx
import onnx_graphsurgeon as gs

from onnx_snn.coding import Coding, InputCoding
from onnx_snn.errors import ModelError, OptionError
from onnx_snn.options import check_positive
from onnx_snn.spiking_graph import GATE

METADATA_KEY = "onnx_snn.schedule"

CLOCK = "onnx_snn/t"
"""Name of the state of a ``step`` file that counts the steps so far."""


class Schedule(StrEnum):
    """Where the time axis is: in the batch, in a Loop, or outside, one Run after the other."""

    LAYER = "layer"
    LOOP = "loop"
    STEP = "step"


class Readout(StrEnum):
    """What the outputs are: the mean over T, or the mean so far at every step [T, N, …]."""

    MEAN = "mean"
    RUNNING = "running"


class ReadoutWeights(StrEnum):
    """What steps count in a readout: all alike, or the first ones less."""

    EVEN = "even"
    RAMP = "ramp"


@dataclass(frozen=True)
class ScheduleOptions:
    """How a spiking network is to be run.

    Attributes:
        schedule: see ``Schedule``.
        readout: see ``Readout``.
        timesteps: default number of steps T; for ``step``, the steps of one Run.
        block: steps evaluated together in ``loop``; bounds the memory.
    """

    schedule: Schedule = Schedule.LAYER
    readout: Readout = Readout.MEAN
    timesteps: int = 32
    block: int = 1

    def __post_init__(self) -> None:
        check_positive(self.timesteps, "timesteps")
        check_positive(self.block, "block")

    def check(self, coding: Coding) -> None:
        """Refuse a schedule that a coding cannot have.

        Raises:
            OptionError: they contradict each other.
        """
        if coding.is_phased and self.schedule is Schedule.LOOP:
            raise OptionError(
                f"schedule 'loop' cuts the {self.timesteps} steps into blocks, but with coding "
                f"'{coding.value}' a layer needs all of them before it fires; use 'layer', or "
                "'step' (one window per run)"
            )


@dataclass(frozen=True)
class StateRecord:
    """One state of a ``step`` file: what goes in as ``input`` comes out as ``output``.

    Attributes:
        input: name of the graph input.
        output: name of the graph output that holds the next state.
        init: value to start from, for every element.
    """

    input: str
    output: str
    init: float


@dataclass(frozen=True)
class CrossingRecord:
    """A placeholder inside the network; see ``onnx_snn.spiking_graph``.

    Attributes:
        op: which of them.
        inputs: names of what it reads, but for T.
        output: name of what it gives.
        averages: see ``onnx_snn.spiking_graph.placeholder``.
    """

    op: str
    inputs: list[str]
    output: str
    averages: bool

    @staticmethod
    def of(node: gs.Node) -> CrossingRecord:
        """The record of a placeholder."""
        names = [tensor.name for tensor in node.inputs[1 if node.op == GATE else 0 :]]
        return CrossingRecord(node.op, names, node.outputs[0].name, bool(node.attrs["averages"]))


@dataclass(frozen=True)
class ScheduleRecord:
    """What a converted file says about its schedule, so that it can be run and put on another.

    Attributes:
        schedule, readout, input_coding, coding, timesteps, block: as asked for.
        window: for drain, the steps during which input and biases are on.
        ramp: until which step the weights of the steps grow in a readout.
        timesteps_input: name of the graph input T; empty where a sequence tells T.
        silent: name of the graph output that tells whether all neurons have fallen silent.
        readouts: pairs of the rows [T·N, …] and their mean.
        crossings: where steps take over from others.
        outputs: for each output of the network the tensor it was made from.
        repeated: for each tensor repeated at the network's end the tensor it is a copy of.
        states: of a ``step`` file.
        sequences: for a sequence input the tensor of folded rows made from it.
    """

    schedule: Schedule
    readout: Readout
    input_coding: InputCoding
    timesteps: int
    block: int
    timesteps_input: str
    coding: Coding = Coding.RATE
    window: int | None = None
    ramp: int = 1
    silent: str = ""
    readouts: list[list[str]] = field(default_factory=list)
    crossings: list[CrossingRecord] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, str] = field(default_factory=dict)
    states: list[StateRecord] = field(default_factory=list)
    sequences: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def of(model: onnx.ModelProto) -> ScheduleRecord:
        """The record of a converted model.

        Raises:
            ModelError: the model was not made by onnx_snn.
        """
        text = next((p.value for p in model.metadata_props if p.key == METADATA_KEY), None)
        if text is None:
            raise ModelError(
                "the model is not a spiking network made by onnx_snn; convert it first"
            )
        try:
            content = json.loads(text)
            return ScheduleRecord(
                **{
                    **content,
                    "schedule": Schedule(content["schedule"]),
                    "readout": Readout(content["readout"]),
                    "input_coding": InputCoding(content["input_coding"]),
                    "coding": Coding(content["coding"]),
                    "states": [StateRecord(**state) for state in content["states"]],
                    "crossings": [CrossingRecord(**c) for c in content.get("crossings", [])],
                }
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"the model's entry '{METADATA_KEY}' is damaged; convert it again"
            ) from error
