"""The optimizer: AdamW under a warm-up and a cosine, behind a clip of the global norm."""

import jax
import jax.numpy as jnp
import optax

from harness.cases.settings import Optim


def schedule(settings: Optim, steps: int) -> optax.Schedule:
    """The learning rate of step 0, 1, ...: up in a line, down in a cosine, then held.

    The first rate is 0 when there is a warm-up, the last of the schedule is
    `final_fraction * learning_rate`.
    """
    total = settings.schedule_steps or steps
    warmup = int(settings.warmup_fraction * total)
    last = max(total - warmup - 1, 1)  # the cosine's last index
    peak, final = settings.learning_rate, settings.final_fraction * settings.learning_rate

    def rate(step: jax.Array) -> jax.Array:
        rising = peak * step / max(warmup, 1)
        # A cosine of a single step is at its end already.
        progress = jnp.clip((step - warmup) / last, 0, 1) if total - warmup > 1 else 1.0
        falling = final + (peak - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < warmup, rising, falling).astype(jnp.float32)

    return rate


def optimizer(settings: Optim, steps: int) -> optax.GradientTransformation:
    """AdamW with weight decay on every parameter; its state is two moments and two counts."""
    return optax.adamw(
        schedule(settings, steps),
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )


def clip(gradients: optax.Updates, norm: jax.Array, limit: float) -> optax.Updates:
    """Gradients scaled down to the global norm `limit` where `norm`, theirs, is above it."""
    return jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm * limit), gradients)
