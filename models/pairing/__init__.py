"""Two models under names of their own made one family: whose array is whose, and what is random.

`models.pair` is what a user writes; this is how it is carried out. A side (`sides`) calls a model
as its own framework does; `learning` finds by experiment which arrays are partners; a member
(`member`) trains one side under the names of the first.
"""

__all__ = ["batches", "experiment", "making", "meshes", "sides"]
