import numpy as np

import demo


def test_the_first_step_from_which_on_the_bound_holds():
    assert demo.steps_within([0.9, 0.2, 0.9, 0.9], 0.8) == 3
    assert demo.steps_within([0.9, 0.9], 0.8) == 1
    assert demo.steps_within([0.9, 0.2], 0.8) is None


def test_neurons_fire_at_the_rate_of_their_input():
    currents = np.array([-0.5, 0, 0.25, 0.5, 1, 2], np.float32)
    rates = demo.simulate_neurons(currents).mean(axis=0)
    np.testing.assert_array_equal(rates, np.clip(currents, 0, 1))


def test_figures_are_written(tmp_path):
    demo.plot_neurons(tmp_path / "neurons.png")
    demo.plot_rate_against_relu(tmp_path / "rates.png")
    assert {path.name for path in tmp_path.iterdir()} == {"neurons.png", "rates.png"}
