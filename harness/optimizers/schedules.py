"""Learning rates over the steps: numbers that a step is given, so that others compile nothing."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # settings can be read without JAX
    import jax


class WarmupCosine(NamedTuple):
    """Up in a line, down in a cosine, then held.

    The first rate is 0 when there is a warm-up; `final` is reached at the schedule's last step.
    """

    peak: Any
    final: Any
    warmup: Any  # steps
    total: Any  # steps, the warm-up among them

    def __call__(self, step: "jax.Array") -> "jax.Array":
        """The rate of step 0, 1, ..."""
        import jax.numpy as jnp

        warmup, peak, final = self.warmup, self.peak, self.final
        last = max(self.total - warmup - 1, 1)  # the cosine's last index
        rising = peak * step / max(warmup, 1)
        # A cosine of a single step is at its end already.
        progress = jnp.clip((step - warmup) / last, 0, 1) if self.total - warmup > 1 else 1.0
        falling = final + (peak - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < warmup, rising, falling).astype(jnp.float32)
