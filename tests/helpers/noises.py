"""Noises that measurements of time have, about 1."""

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator


def correlated(strength: float) -> Callable[[Generator, int], np.ndarray]:
    """Noise of 10 % in which neighbours are alike."""

    def draw(generator: Generator, count: int) -> np.ndarray:
        noise = generator.normal(0, 1, count + 200)
        for n in range(1, len(noise)):
            noise[n] = strength * noise[n - 1] + (1 - strength**2) ** 0.5 * noise[n]
        return np.exp(0.1 * noise[200:])

    return draw


def spiked(generator: Generator, count: int) -> np.ndarray:
    """2 % of noise, and about one step in ten takes ten times as long."""
    return normal(generator, count) * np.where(generator.random(count) < 0.1, 10, 1)


def normal(generator: Generator, count: int) -> np.ndarray:
    return generator.normal(1, 0.02, count)


NOISES: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "normal": normal,
    "spiked": spiked,
    "wide": lambda g, n: np.abs(g.normal(1, 0.3, n)) + 0.01,
    "skewed": lambda g, n: g.lognormal(0, 1, n),
    "heavy-tailed": lambda g, n: np.exp(0.1 * g.standard_t(2, n)),
    "two speeds": lambda g, n: g.choice([1.0, 1.5], n) * np.exp(g.normal(0, 0.01, n)),
    "rounded": lambda g, n: np.round(g.normal(0.07, 0.004, n), 3),
    "correlated": correlated(0.5),
    "strongly correlated": correlated(0.9),
    "drifting": lambda g, n: np.exp(np.cumsum(g.normal(0, 0.02, n))),
}
