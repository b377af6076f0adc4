import numpy as np

from digit_recognizer.ensemble import Predictions, mean


def test_the_mean_weighs_all_alike() -> None:
    random = np.random.default_rng(0)
    members = [
        Predictions(name, random.dirichlet(np.ones(10), 7), random.dirichlet(np.ones(10), 5))
        for name in "abc"
    ]
    blend = mean(members)
    np.testing.assert_allclose(blend.out_of_fold[3], sum(m.out_of_fold[3] for m in members) / 3)
    np.testing.assert_allclose(blend.test[4], sum(m.test[4] for m in members) / 3)
    np.testing.assert_allclose(blend.test.sum(axis=1), 1)
