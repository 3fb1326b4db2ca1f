import json

import onnx
import pytest

from nets import Dyadic, cnn
from onnx_snn import convert
from onnx_snn.coding import InputCoding
from onnx_snn.errors import ModelError, OptionError
from onnx_snn.schedule import (
    METADATA_KEY,
    Readout,
    Schedule,
    ScheduleOptions,
    ScheduleRecord,
    StateRecord,
)
from simulator import dyadic_thresholds, stats_of

RECORD = ScheduleRecord(
    schedule=Schedule.STEP,
    readout=Readout.RUNNING,
    input_coding=InputCoding.SEQUENCE,
    timesteps=12,
    block=3,
    timesteps_input="",
    readouts=[["rows", "mean"]],
    outputs={"y": "rows"},
    states=[StateRecord("v", "v_next", 0.5)],
    sequences={"x": "x_rows"},
)


def _model(text):
    model = onnx.ModelProto()
    model.metadata_props.add(key="other", value="3")
    if text is not None:
        model.metadata_props.add(key=METADATA_KEY, value=text)
    return model


def test_a_record_reads_back_with_its_types():
    found = ScheduleRecord.of(_model(RECORD.to_json()))
    assert found == RECORD
    assert type(found.schedule) is Schedule
    assert type(found.readout) is Readout
    assert type(found.input_coding) is InputCoding
    assert type(found.states[0]) is StateRecord


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("readout", list(Readout))
def test_a_converted_model_says_how_it_was_made(schedule, readout):
    model = cnn(Dyadic())
    stats = stats_of(model, dyadic_thresholds(model, {"x": Dyadic(1)(8, 2, 8, 8)}))
    options = {"schedule": schedule.value, "readout": readout.value}
    snn = convert(model, stats=stats, mode="max", timesteps=6, block=2, **options).model
    record = ScheduleRecord.of(snn)
    assert (record.schedule, record.readout) == (schedule, readout)
    assert (record.timesteps, record.input_coding) == (6, InputCoding.CONSTANT)
    inputs = {value.name for value in snn.graph.input}
    assert record.timesteps_input in inputs
    assert {state.input for state in record.states} <= inputs
    assert bool(record.states) == (schedule is Schedule.STEP)


def test_a_model_of_somebody_else():
    with pytest.raises(ModelError, match="is not a spiking network made by onnx_snn; convert it"):
        ScheduleRecord.of(_model(None))


WHOLE = json.loads(RECORD.to_json())


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", '"text"', "{}", "NaN"),
        *(RECORD.to_json()[:length] for length in range(1, 200, 40)),
        json.dumps({**WHOLE, "schedule": "never"}),
        json.dumps({**WHOLE, "readout": None}),
        json.dumps({**WHOLE, "coding": 3}),
        json.dumps({**WHOLE, "states": 3}),
        json.dumps({**WHOLE, "states": [{"input": "v"}]}),
        json.dumps({**WHOLE, "states": ["v"]}),
        json.dumps({**WHOLE, "more": 1}),
        json.dumps({key: WHOLE[key] for key in WHOLE if key != "timesteps"}),
    ],
)
def test_a_damaged_record(text):
    with pytest.raises(ModelError, match="is damaged; convert it again"):
        ScheduleRecord.of(_model(text))


@pytest.mark.parametrize("option", ["timesteps", "block"])
@pytest.mark.parametrize("value", [0, -4, 1.5, "8", None, True])
def test_options_out_of_range(option, value):
    with pytest.raises(OptionError, match=f"{option} must be a whole number of at least 1"):
        ScheduleOptions(**{option: value})
