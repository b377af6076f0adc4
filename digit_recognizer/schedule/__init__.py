"""What to fit, in which order, on which cores and until when; all that concerns time stands here.

Doors: `make_schedule`, `split_cores`, and the records `Schedule`, `Stage` and `Member` that drafts store.
"""

from digit_recognizer.schedule.minutes import make_schedule
from digit_recognizer.schedule.stages import Member, Schedule, Stage, recipe_of, split_cores

__all__ = ["Member", "Schedule", "Stage", "make_schedule", "recipe_of", "split_cores"]
