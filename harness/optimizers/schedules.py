"""Learning rates over the steps: numbers that a step is given, so that others compile nothing."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # settings can be read without JAX
    import jax


class WarmupCosine(NamedTuple):
    """Up in a line, down in a cosine, then held; numpy's numbers, or the step's own traced ones.

    The first rate is 0 when there is a warm-up; `final` is reached at the schedule's last step.
    half_range: half of what the cosine falls by, rounded once.
    """

    peak: Any
    final: Any
    half_range: Any
    warmup: Any  # steps
    total: Any  # steps, the warm-up among them

    def __call__(self, step: "jax.Array") -> "jax.Array":
        """The rate of step 0, 1, ..."""
        import jax.numpy as jnp

        now, warmup, length = (
            jnp.asarray(count).astype(jnp.float32)
            for count in (step, self.warmup, self.total - self.warmup)
        )
        rising = self.peak * now / jnp.maximum(warmup, 1)
        # A cosine of a single step is at its end already.
        progress = jnp.where(
            length > 1, jnp.clip((now - warmup) / jnp.maximum(length - 1, 1), 0, 1), 1
        )
        falling = self.final + self.half_range * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(now < warmup, rising, falling)


def warmup_cosine(peak: float, final: float, warmup: int, total: int) -> WarmupCosine:
    """The schedule of these numbers."""
    peak_, final_, half = (np.float32(rate) for rate in (peak, final, (peak - final) * 0.5))
    return WarmupCosine(peak_, final_, half, np.int32(warmup), np.int32(total))
