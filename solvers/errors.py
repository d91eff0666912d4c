"""The one error of this room."""


class PlanError(ValueError):
    """A setting of a plan is outside its range; the text says which one and what is allowed."""
