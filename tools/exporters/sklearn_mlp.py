"""Fixtures from skl2onnx: perceptrons of scikit-learn, trained for a moment on seeded data."""

import numpy as np
from fixture import save
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PACKAGES = ["scikit-learn", "skl2onnx"]
FEATURES = 12


def main() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 1, (4, FEATURES))
    labels = random.integers(0, 4, 400)
    data = (centres[labels] + random.normal(0, 1, (400, FEATURES))).astype(np.float32)
    samples = data[:8]
    options = {"hidden_layer_sizes": (16, 16), "max_iter": 60, "early_stopping": True}

    classifier = MLPClassifier(**options, random_state=0).fit(data, labels)
    expected = [classifier.predict(samples), classifier.predict_proba(samples)]
    plain = to_onnx(classifier, samples, options={"zipmap": False}, target_opset=18)
    save("sklearn_classifier", plain, [samples], expected, PACKAGES)
    save("sklearn_classifier_zipmap", to_onnx(classifier, samples), [samples], expected, PACKAGES)

    # One target: skl2onnx 1.20 reshapes several into one column.
    targets = data[:, 0] * data[:, 1]
    regressor = make_pipeline(StandardScaler(), MLPRegressor(**options, random_state=0))
    regressor.fit(data, targets)
    expected = [regressor.predict(samples)[:, None]]
    save("sklearn_regressor", to_onnx(regressor, samples), [samples], expected, PACKAGES)


if __name__ == "__main__":
    main()
